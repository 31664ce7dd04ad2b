"""The playground of `clovisor demo`: network-namespace pods and a small bookinfo application."""
