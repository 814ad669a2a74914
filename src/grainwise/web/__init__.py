"""The web page: a face for one person on their own machine. It listens on 127.0.0.1 only and asks nothing of any other host."""
