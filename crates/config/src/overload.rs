//! What `overload_manager` and `watchdogs` compile to.

use nuncio_filter::{LoadShedPoint, OverloadAction, ScaledTimer, TimerMinimum};
use std::time::Duration;

/// `envoy.config.overload.v3.OverloadManager`.
#[derive(Debug, Clone, PartialEq)]
pub struct OverloadConfig {
    /// `refresh_interval`. Default 1 s.
    pub refresh_interval: Duration,
    /// `resource_monitors`.
    pub monitors: Vec<ResourceMonitor>,
    /// `actions`, each once.
    pub actions: Vec<(OverloadAction, Vec<Trigger>)>,
    /// `loadshed_points`, each once.
    pub points: Vec<(LoadShedPoint, Vec<Trigger>)>,
    /// `timer_scale_factors`, by [`ScaledTimer`].
    pub timers: [Option<TimerMinimum>; ScaledTimer::COUNT],
}

/// One resource that is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceMonitor {
    /// `name`: in statistics and triggers.
    pub name: String,
    /// What is measured.
    pub kind: MonitorKind,
}

/// What a resource monitor measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MonitorKind {
    /// `fixed_heap`: memory in use by the allocator, of so many bytes.
    FixedHeap(u64),
    /// `cgroup_memory`: memory of the control group, of its limit or of so many bytes if that is less.
    CgroupMemory(Option<u64>),
    /// `cpu_utilization` of the machine.
    HostCpu,
    /// `cpu_utilization` of the control group.
    ContainerCpu,
    /// `downstream_connections`: at most so many.
    DownstreamConnections(u64),
    /// `injected_resource`: a file that holds the pressure.
    Injected(String),
}

/// How an action follows a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The place of the resource among the monitors.
    pub monitor: usize,
    /// From which pressure on the action begins.
    pub from: f64,
    /// From which pressure on it is taken in full.
    pub to: f64,
}

impl Trigger {
    /// How far the action goes at a pressure: 0.0 to 1.0.
    pub fn value(&self, pressure: f64) -> f64 {
        if pressure >= self.to {
            1.0
        } else if pressure <= self.from {
            0.0
        } else {
            (pressure - self.from) / (self.to - self.from)
        }
    }
}

/// `watchdogs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watchdogs {
    /// `main_thread_watchdog`.
    pub main_thread: Watchdog,
    /// `worker_watchdog`.
    pub workers: Watchdog,
}

/// `envoy.config.bootstrap.v3.Watchdog`: how long a thread may not come back to its event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchdog {
    /// `miss_timeout`. Default 200 ms.
    pub miss: Duration,
    /// `megamiss_timeout`. Default 1 s.
    pub mega_miss: Duration,
}

impl Default for Watchdog {
    fn default() -> Self {
        Watchdog { miss: Duration::from_millis(200), mega_miss: Duration::from_secs(1) }
    }
}
