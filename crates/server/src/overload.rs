//! The overload manager: measures resources, and sets what is done about it.
//!
//! Owns: the monitors' turn, triggers, their statistics. Does not own: what actions do ([`nuncio_filter::Overload`] is the
//! state that the places ask which do it), nor the limits of connections at listeners (`listener::admission`).
//!
//! It is made once: a changed `overload_manager` needs a restart, as in Envoy.

mod control_group;
mod monitor;

use crate::state::Server;
use crate::worker::Command;
use monitor::Monitor;
use nuncio_config::overload::{MonitorKind, OverloadConfig, Trigger};
use nuncio_filter::{LoadShedPoint, Overload, OverloadAction, OverloadSettings, SATURATED};
use nuncio_stats::names::{
    LoadShedPointStats, OverloadActionStateStats, OverloadStats, ProactiveResourceStats, ResourceMonitorStats,
};
use nuncio_stats::{Scope, Store};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::MissedTickBehavior;

/// The state that workers share, for a configuration.
pub(crate) fn state(config: Option<&OverloadConfig>, store: &Arc<Store>) -> Arc<Overload> {
    let Some(config) = config else { return Overload::new(OverloadSettings::default()) };
    let scope = store.scope("overload", &[]);
    let mut settings = OverloadSettings { configured: true, timers: config.timers, ..OverloadSettings::default() };
    for (point, _) in &config.points {
        let stats = LoadShedPointStats::register(&scope.child(point.name()));
        settings.shed[*point as usize] = Some(stats);
    }
    for monitor in &config.monitors {
        if let MonitorKind::DownstreamConnections(most) = monitor.kind {
            settings.max_connections = Some(most);
            settings.refused = Some(ProactiveResourceStats::register(&scope.child(&monitor.name)));
        }
    }
    Overload::new(settings)
}

/// Measures from now on, as long as the process lives.
pub(crate) fn start(server: &Rc<Server>) {
    let Some(config) = server.snapshot.borrow().overload.clone() else { return };
    let mut manager = Manager::new(&config, &server.store.scope("overload", &[]), Arc::clone(&server.overload));
    let server = Rc::downgrade(server);
    tokio::task::spawn_local(async move {
        let mut turn = tokio::time::interval(config.refresh_interval);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<Instant> = None;
        loop {
            turn.tick().await;
            let Some(server) = server.upgrade() else { return };
            let now = Instant::now();
            if let Some(before) = before.replace(now) {
                let passed = now.saturating_duration_since(before);
                manager.stats.refresh_interval_delay().record(passed.as_millis() as u64);
            }
            if manager.refresh(&config) {
                for worker in &server.workers {
                    worker.send(Command::OverloadChanged);
                }
            }
        }
    });
}

/// One resource, and what was last measured of it.
struct Resource {
    monitor: Monitor,
    pressure: f64,
    stats: ResourceStats,
}

enum ResourceStats {
    Measured(ResourceMonitorStats),
    Counted(ProactiveResourceStats),
}

struct Manager {
    overload: Arc<Overload>,
    resources: Vec<Resource>,
    actions: Vec<OverloadActionStateStats>,
    points: Vec<LoadShedPointStats>,
    stats: OverloadStats,
}

impl Manager {
    fn new(config: &OverloadConfig, scope: &Scope, overload: Arc<Overload>) -> Manager {
        let resource = |monitor: &nuncio_config::overload::ResourceMonitor| {
            let scope = scope.child(&monitor.name);
            let stats = match monitor.kind {
                MonitorKind::DownstreamConnections(_) => {
                    ResourceStats::Counted(ProactiveResourceStats::register(&scope))
                }
                _ => ResourceStats::Measured(ResourceMonitorStats::register(&scope)),
            };
            Resource { monitor: Monitor::new(&monitor.kind, &overload), pressure: 0.0, stats }
        };
        let resources = config.monitors.iter().map(resource).collect();
        let action = |action: &OverloadAction| OverloadActionStateStats::register(&scope.child(action.name()));
        let point = |point: &LoadShedPoint| LoadShedPointStats::register(&scope.child(point.name()));
        Manager {
            resources,
            overload,
            actions: config.actions.iter().map(|(kind, _)| action(kind)).collect(),
            points: config.points.iter().map(|(kind, _)| point(kind)).collect(),
            stats: OverloadStats::register(scope),
        }
    }

    /// Measures, and sets actions and points. True if an action changed.
    fn refresh(&mut self, config: &OverloadConfig) -> bool {
        self.measure();
        let mut changed = false;
        for ((action, triggers), stats) in config.actions.iter().zip(&self.actions) {
            let scale = self.scale(triggers);
            stats.active().set(u64::from(scale == SATURATED));
            stats.scale_percent().set(u64::from(scale * 100 / SATURATED));
            if self.overload.set_action(*action, scale) {
                changed = true;
                tracing::info!(target: "main", "overload action {} is now at {} %", action.name(), scale * 100 / SATURATED);
                if *action == OverloadAction::ShrinkHeap {
                    monitor::free_in_background(scale == SATURATED);
                }
            }
        }
        for ((point, triggers), stats) in config.points.iter().zip(&self.points) {
            let scale = self.scale(triggers);
            stats.scale_percent().set(u64::from(scale * 100 / SATURATED));
            self.overload.set_point(*point, scale);
        }
        changed
    }

    fn measure(&mut self) {
        for resource in &mut self.resources {
            match resource.monitor.measure() {
                Ok(pressure) => {
                    resource.pressure = pressure;
                    let percent = (pressure * 100.0).clamp(0.0, 1e9) as u64;
                    match &resource.stats {
                        ResourceStats::Measured(stats) => stats.pressure().set(percent),
                        ResourceStats::Counted(stats) => stats.pressure().set(percent),
                    }
                }
                // What was measured last stays in force, as in Envoy.
                Err(error) => {
                    tracing::debug!(target: "main", "a resource can't be measured: {error}");
                    if let ResourceStats::Measured(stats) = &resource.stats {
                        stats.failed_updates().inc();
                    }
                }
            }
        }
    }

    fn scale(&self, triggers: &[Trigger]) -> u32 {
        let pressure = |at: usize| self.resources.get(at).map_or(0.0, |resource| resource.pressure);
        let value = triggers.iter().map(|trigger| trigger.value(pressure(trigger.monitor))).fold(0.0, f64::max);
        (value * f64::from(SATURATED)).round() as u32
    }
}
