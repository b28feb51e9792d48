"""What happens after the model: predictions, what they hold, drawing, files, tracking, video."""
