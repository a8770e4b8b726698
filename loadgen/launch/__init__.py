"""Starting engines."""
