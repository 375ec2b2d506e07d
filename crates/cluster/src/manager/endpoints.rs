//! Endpoints that discovery brings (EDS): hosts that stay keep their connections, counters and health.

use super::{Cluster, Shared, now};
use crate::config::{Endpoint, EndpointAddress, HealthStatus, LoadAssignment, LocalityEndpoints};
use crate::health::HealthFlags;
use crate::host::Host;
use crate::membership::{HostMaker, LocalityMembers, Resolved, all_addresses, by_address, is_same};
use nuncio_stream_info::Address;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// What EDS says of a host's health.
const OF_DISCOVERY: [HealthFlags; 3] =
    [HealthFlags::FAILED_EDS_HEALTH, HealthFlags::EDS_STATUS_DRAINING, HealthFlags::DEGRADED_EDS_HEALTH];

/// The flag of a health status; none for a host that may take load.
pub(crate) fn flag_of(status: HealthStatus) -> HealthFlags {
    match status {
        HealthStatus::Unknown | HealthStatus::Healthy => HealthFlags::NONE,
        HealthStatus::Unhealthy | HealthStatus::Timeout => HealthFlags::FAILED_EDS_HEALTH,
        HealthStatus::Draining => HealthFlags::EDS_STATUS_DRAINING,
        HealthStatus::Degraded => HealthFlags::DEGRADED_EDS_HEALTH,
    }
}

impl Cluster {
    /// Takes another assignment up. Returns whether it changed anything.
    pub(super) fn set_assignment(self: &Rc<Self>, shared: &Shared, assignment: &Arc<LoadAssignment>) {
        let before = self.replace_assignment(assignment);
        let is_new = before.as_ref().is_none_or(|before| **before != **assignment);
        if !is_new || !self.take_endpoints(shared, assignment) {
            self.info.stats.update().update_no_rebuild().inc();
        }
        if before.is_none() {
            self.arrived(shared);
        }
    }

    /// There is no assignment, and the cluster does not wait for one any longer.
    pub(super) fn go_without_assignment(self: &Rc<Self>, shared: &Shared) {
        if self.assignment().is_none() {
            self.replace_assignment(&Arc::default());
            self.arrived(shared);
        }
    }

    /// Whether any host changed.
    fn take_endpoints(self: &Rc<Self>, shared: &Shared, assignment: &LoadAssignment) -> bool {
        let hosts = self.hosts();
        let mut known = by_address(&hosts);
        let maker = HostMaker::new(&self.info, now(), false);
        let mut is_stale = false;
        let mut members: Vec<LocalityMembers> = Vec::with_capacity(assignment.localities.len());
        for place in &assignment.localities {
            let mut taken = Vec::with_capacity(place.endpoints.len());
            for endpoint in &place.endpoints {
                let EndpointAddress::Resolved(address) = &endpoint.address else { continue };
                match known.remove(&(place.priority, address.clone())) {
                    Some(host) if is_same(&self.info.config, &host, place, endpoint, None) => {
                        is_stale |= follow(&host, endpoint);
                        taken.push(host);
                    }
                    replaced => {
                        let addresses = all_addresses(address, endpoint);
                        let resolved = Resolved { address: address.clone(), addresses, name: None };
                        let host = maker.make(place, endpoint, resolved);
                        // What was found out about the address holds on.
                        inherit(replaced.as_ref(), &host);
                        taken.push(host);
                    }
                }
            }
            members.push(LocalityMembers { priority: place.priority, weight: place.weight, hosts: taken });
        }
        self.keep_healthy(&mut members, known, &assignment.localities);
        if is_stale {
            self.info.stats.update().membership_change().inc();
        }
        self.set_members(shared, members) || is_stale
    }

    /// Hosts that discovery dropped stay as long as health checks pass, unless `ignore_health_on_host_removal`.
    fn keep_healthy(
        &self,
        members: &mut Vec<LocalityMembers>,
        dropped: HashMap<(u32, Address), Arc<Host>>,
        places: &[LocalityEndpoints],
    ) {
        let config = &self.info.config;
        if config.health_check.is_none() || config.ignore_health_on_host_removal {
            return;
        }
        let failed = HealthFlags::FAILED_ACTIVE_HC.or(HealthFlags::FAILED_EDS_HEALTH);
        for ((priority, _), host) in dropped {
            if host.health_flags().has(failed) {
                continue;
            }
            host.set_health(HealthFlags::PENDING_DYNAMIC_REMOVAL);
            let home = places
                .iter()
                .position(|place| place.priority == priority && place.locality == host.info().locality)
                .and_then(|at| members.get_mut(at));
            match home {
                Some(home) => home.hosts.push(host),
                None => members.push(LocalityMembers { priority, weight: 0, hosts: vec![host] }),
            }
        }
    }
}

/// Takes over what may change of a host that stays: weight and health. Returns whether its health changed.
fn follow(host: &Host, endpoint: &Endpoint) -> bool {
    host.set_weight(endpoint.weight);
    host.clear_health(HealthFlags::PENDING_DYNAMIC_REMOVAL, now());
    let wanted = flag_of(endpoint.health_status);
    let mut changed = false;
    for flag in OF_DISCOVERY {
        changed |= match flag == wanted {
            true => host.set_health(flag),
            false => host.clear_health(flag, now()),
        };
    }
    changed
}

/// A host that takes the place of another at the same address does not begin as if nobody knew it.
fn inherit(replaced: Option<&Arc<Host>>, host: &Host) {
    let Some(replaced) = replaced else { return };
    let checked = HealthFlags::FAILED_ACTIVE_HC.or(HealthFlags::PENDING_ACTIVE_HC);
    if !replaced.health_flags().has(HealthFlags::FAILED_ACTIVE_HC) {
        host.clear_health(checked, now());
    }
}
