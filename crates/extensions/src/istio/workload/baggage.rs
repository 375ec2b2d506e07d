//! A workload in the `baggage` header (W3C Baggage), as ambient proxies send it.

use super::{LONGEST, Workload, WorkloadKind};
use std::sync::Arc;

impl Workload {
    /// What the members of the header say; none if none of them says anything of a workload.
    pub(crate) fn of_baggage(header: &str) -> Option<Workload> {
        let mut found = Workload::default();
        let (mut service, mut app) = (Arc::<str>::default(), Arc::<str>::default());
        let (mut revision, mut version) = (Arc::<str>::default(), Arc::<str>::default());
        let mut known = false;
        for member in header.split(',') {
            let member = member.split(';').next().unwrap_or_default();
            let Some((key, value)) = member.split_once('=') else { continue };
            let value = value.trim();
            if value.len() > LONGEST {
                continue;
            }
            let place = match key.trim() {
                "k8s.namespace.name" => &mut found.namespace,
                "k8s.cluster.name" => &mut found.cluster,
                "service.name" => &mut service,
                "service.version" => &mut revision,
                "app.name" => &mut app,
                "app.version" => &mut version,
                "k8s.instance.name" => &mut found.instance,
                "cloud.region" => &mut found.region,
                "cloud.availability_zone" => &mut found.zone,
                key => {
                    let kind = key.strip_prefix("k8s.").and_then(|key| key.strip_suffix(".name"));
                    let kind = kind.map_or(WorkloadKind::Unknown, WorkloadKind::from_name);
                    if kind == WorkloadKind::Unknown {
                        continue;
                    }
                    found.kind = kind;
                    &mut found.name
                }
            };
            *place = value.into();
            known = true;
        }
        // Each stands for the other where one is missing.
        let or = |one: &Arc<str>, other: &Arc<str>| if one.is_empty() { Arc::clone(other) } else { Arc::clone(one) };
        (found.canonical_name, found.app) = (or(&service, &app), or(&app, &service));
        (found.canonical_revision, found.version) = (or(&revision, &version), or(&version, &revision));
        known.then_some(found)
    }
}
