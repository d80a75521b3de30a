"""A network of real mesh machines in virtual time: no Trio, no sockets, no clock; one seed gives one course of events.

It knows nothing of the node but what the node promises the machine (`pfn_protocol.effects`), so what is shown here is
shown of the code that production runs.
"""
