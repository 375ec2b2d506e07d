//! Cluster manager: membership, discovery, health checks, outliers, breakers, pools.
