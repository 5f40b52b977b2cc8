"""From a study to finished run folders; knows no science."""
