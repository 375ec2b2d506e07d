//! A route table that changes while it is used.

use crate::RouteTable;
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// The table of one route configuration, put in force for all workers at once. Reading it takes no lock.
#[derive(Debug, Default)]
pub struct LiveRoutes {
    table: ArcSwapOption<RouteTable>,
}

impl LiveRoutes {
    /// Not known yet: no request finds a route.
    pub fn new() -> LiveRoutes {
        LiveRoutes::default()
    }

    /// The table in force.
    #[inline]
    pub fn get(&self) -> Option<Arc<RouteTable>> {
        self.table.load_full()
    }

    /// Puts another table in force: requests that come from here on find their routes in it.
    pub fn set(&self, table: Option<Arc<RouteTable>>) {
        self.table.store(table);
    }
}
