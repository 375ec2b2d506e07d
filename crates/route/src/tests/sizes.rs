//! What a route costs in memory: configurations have tens of thousands.

use crate::route::Route;
use crate::{Forward, RouteTable, VirtualHost};
use std::mem::size_of;

#[test]
fn of_structs() {
    assert!(size_of::<Route>() <= 160, "{}", size_of::<Route>());
    assert!(size_of::<Forward>() <= 256, "{}", size_of::<Forward>());
    assert!(size_of::<VirtualHost>() <= 240, "{}", size_of::<VirtualHost>());
    fn shared<T: Send + Sync>() {}
    shared::<RouteTable>();
}
