//! Host sets, priorities, localities, panic, and every balancing algorithm.
