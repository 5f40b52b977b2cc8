"""One loop, for R networks side by side or one network of any kind."""
