"""Everything that touches the kernel: compiling, pins, maps, the ring, filters, namespaces.

The only importer of bcc and pyroute2.
"""
