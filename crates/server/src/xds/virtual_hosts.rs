//! VHDS: virtual hosts of a route configuration that come by themselves, all of them or as requests ask for them.

use super::on_demand::{self, Asked};
use super::routes::Routes;
use super::{Counts, Failure, Subscription, Update, Watcher, subscribe};
use crate::state::Server;
use nuncio_config::sources::VirtualHostsUse;
use nuncio_route::{Question, VirtualHostDiscovery};
use nuncio_stats::Scope;
use nuncio_stats::names::{ConfigReloadStats, RouteSubscriptionStats};
use nuncio_xds::{Names, Outcome, Resource, ResourceType};
use prost::encoding::{WireType, encode_key, encode_varint};
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// `RouteConfiguration.virtual_hosts`.
const FIELD: u32 = 2;

/// Virtual hosts by the names of their resources.
pub(super) type Hosts = BTreeMap<String, Rc<Resource>>;

/// The virtual hosts of one route configuration.
pub(super) struct VirtualHosts {
    routes: Weak<Routes>,
    /// The route configuration.
    name: Arc<str>,
    /// Of the source.
    pub(super) digest: u64,
    subscription: OnceCell<Rc<Subscription>>,
    hosts: RefCell<Hosts>,
    asked: RefCell<Asked>,
    pub(super) discovery: Arc<VirtualHostDiscovery>,
    stats: (ConfigReloadStats, RouteSubscriptionStats),
}

impl Drop for VirtualHosts {
    fn drop(&mut self) {
        // The newest table knows of the discovery, and the discovery of the table.
        self.discovery.newest.set(None);
    }
}

impl VirtualHosts {
    /// Not subscribed yet.
    pub(super) fn new(routes: &Rc<Routes>, name: &Arc<str>, used: &VirtualHostsUse, scope: &Scope) -> Rc<VirtualHosts> {
        Rc::new(VirtualHosts {
            routes: Rc::downgrade(routes),
            name: Arc::clone(name),
            digest: used.source.digest,
            subscription: OnceCell::new(),
            hosts: RefCell::default(),
            asked: RefCell::default(),
            discovery: Arc::default(),
            stats: (ConfigReloadStats::register(scope), RouteSubscriptionStats::register(scope)),
        })
    }

    /// Subscribes to all that the server has for the route configuration.
    pub(super) fn start(self: &Rc<Self>, server: &Rc<Server>, used: &VirtualHostsUse, scope: &Scope) {
        on_demand::answer(&self.discovery.on_demand, self, VirtualHosts::asked);
        let watcher = Rc::new(Taker(Rc::downgrade(self)));
        let source = (&used.source, Counts::of(scope));
        let subscription =
            subscribe(server, source, ResourceType::VirtualHost, Names::Under(self.name.as_ref().into()), watcher);
        // Set once, here.
        let _ = self.subscription.set(subscription);
    }

    /// What there is.
    pub(super) fn hosts(&self) -> Hosts {
        self.hosts.borrow().clone()
    }

    /// A request for a host that no virtual host is for.
    fn asked(self: &Rc<Self>, Question { name, answer }: Question) {
        let alias = format!("{}/{name}", self.name);
        if self.asked.borrow_mut().add(alias.clone(), answer)
            && let Some(subscription) = self.subscription.get()
        {
            subscription.extend(&alias);
        }
    }

    fn take(&self, server: &Rc<Server>, routes: &Rc<Routes>, update: &Update<'_>) -> Outcome {
        let mut hosts = self.hosts();
        for name in update.removed {
            hosts.remove(name);
        }
        for resource in update.resources.iter().filter(|resource| !resource.body.is_empty()) {
            hosts.insert(resource.name.clone(), Rc::clone(resource));
        }
        let is_changed = *self.hosts.borrow() != hosts;
        if is_changed {
            let names =
                || update.resources.iter().map(|resource| resource.name.as_str()).collect::<Vec<_>>().join(", ");
            routes.take_virtual_hosts(server, &hosts).map_err(|reason| format!("{}: {reason}", names()))?;
            *self.hosts.borrow_mut() = hosts;
            self.stats.0.config_reload().inc();
        }
        routes.virtual_hosts_known();
        for resource in update.resources {
            for name in std::iter::once(&resource.name).chain(&resource.aliases) {
                let answers = self.asked.borrow_mut().take(name);
                answers.into_iter().for_each(|answer| answer());
                if resource.body.is_empty()
                    && let Some(subscription) = self.subscription.get()
                {
                    self.asked.borrow_mut().lacking(name, subscription);
                }
            }
        }
        Ok(())
    }
}

/// A route configuration with more virtual hosts, as wire bytes: fields of a message may come in any order and place.
pub(super) fn with_hosts(routes: &[u8], hosts: &Hosts) -> Vec<u8> {
    let mut wire = routes.to_vec();
    for host in hosts.values() {
        encode_key(FIELD, WireType::LengthDelimited, &mut wire);
        encode_varint(host.body.len() as u64, &mut wire);
        wire.extend_from_slice(&host.body);
    }
    wire
}

struct Taker(Weak<VirtualHosts>);

impl Watcher for Taker {
    fn update(&self, update: &Update<'_>) -> Outcome {
        let Some(hosts) = self.0.upgrade() else { return Ok(()) };
        let Some(routes) = hosts.routes.upgrade() else { return Ok(()) };
        match routes.server() {
            Some(server) => hosts.take(&server, &routes, update),
            None => Ok(()),
        }
    }

    fn failed(&self, _failure: &Failure) {
        let Some(hosts) = self.0.upgrade() else { return };
        if let Some(routes) = hosts.routes.upgrade() {
            routes.virtual_hosts_known();
        }
    }
}
