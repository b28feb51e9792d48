"""Parts of Detectron2's projects that published segmentation code imports."""
