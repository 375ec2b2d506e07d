//! Scripted origins, in-memory I/O, network-namespace hosts, and assertions. Development only.
