//! Resource monitors: each measures one pressure, 0.0 for none and 1.0 for as much as there is.

use super::control_group::ControlGroup;
use nuncio_config::overload::MonitorKind;
use nuncio_filter::Overload;
use std::fs;
use std::sync::Arc;
use std::time::Instant;
use tikv_jemalloc_ctl::{background_thread, epoch, stats};

/// What a new reading of the CPU counts for beside those before it.
const SMOOTHING: f64 = 0.05;

/// A resource that can be measured.
pub(super) enum Monitor {
    FixedHeap(u64),
    ControlGroupMemory(Option<u64>),
    HostCpu(Usage),
    ContainerCpu(Usage),
    Connections(Arc<Overload>),
    Injected(String),
}

impl Monitor {
    pub(super) fn new(kind: &MonitorKind, overload: &Arc<Overload>) -> Monitor {
        match kind {
            MonitorKind::FixedHeap(most) => Monitor::FixedHeap(*most),
            MonitorKind::CgroupMemory(most) => Monitor::ControlGroupMemory(*most),
            MonitorKind::HostCpu => Monitor::HostCpu(Usage::default()),
            MonitorKind::ContainerCpu => Monitor::ContainerCpu(Usage::default()),
            MonitorKind::DownstreamConnections(_) => Monitor::Connections(Arc::clone(overload)),
            MonitorKind::Injected(path) => Monitor::Injected(path.clone()),
        }
    }

    /// The pressure now.
    pub(super) fn measure(&mut self) -> Result<f64, String> {
        match self {
            Monitor::FixedHeap(most) => Ok(heap()? as f64 / *most as f64),
            Monitor::ControlGroupMemory(most) => {
                let (used, limit) = ControlGroup::find()?.memory()?;
                let limit = limit.into_iter().chain(*most).min();
                Ok(limit.map_or(0.0, |limit| used as f64 / limit.max(1) as f64))
            }
            Monitor::HostCpu(usage) => {
                let text = fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
                let (busy, all) = host_times(&text).ok_or("/proc/stat: not understood")?;
                Ok(usage.after(busy, all))
            }
            Monitor::ContainerCpu(usage) => {
                let group = ControlGroup::find()?;
                let since = usage.since.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
                let (busy, cpus) = (group.cpu_seconds()?, group.cpus()?);
                Ok(usage.after(busy, since * cpus))
            }
            Monitor::Connections(overload) => {
                let most = overload.max_connections().unwrap_or(u64::MAX);
                Ok(overload.connections() as f64 / most as f64)
            }
            Monitor::Injected(path) => {
                let text = fs::read_to_string(&*path).map_err(|error| format!("{path}: {error}"))?;
                match text.trim().parse::<f64>() {
                    Ok(pressure) if (0.0..=1.0).contains(&pressure) => Ok(pressure),
                    _ => Err(format!("{path}: holds no number from 0 to 1")),
                }
            }
        }
    }
}

/// How busy a CPU was between readings, smoothed.
#[derive(Default)]
pub(super) struct Usage {
    since: Option<Instant>,
    before: Option<(f64, f64)>,
    smoothed: f64,
}

impl Usage {
    /// Takes a reading of the time that was worked and the time that there was.
    fn after(&mut self, busy: f64, all: f64) -> f64 {
        let (busy_before, all_before) = self.before.replace((busy, all)).unwrap_or((busy, all));
        let passed = all - all_before;
        if passed > 0.0 {
            let share = ((busy - busy_before) / passed).clamp(0.0, 1.0);
            self.smoothed = share * SMOOTHING + self.smoothed * (1.0 - SMOOTHING);
        }
        self.smoothed
    }
}

/// The first line of `/proc/stat`: what was worked (user, nice, system), and all until the idle time.
fn host_times(text: &str) -> Option<(f64, f64)> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let times: Vec<f64> = line.split_ascii_whitespace().skip(1).take(4).filter_map(|time| time.parse().ok()).collect();
    let [user, nice, system, idle] = times[..] else { return None };
    let busy = user + nice + system;
    Some((busy, busy + idle))
}

/// Bytes in pages that the allocator has in use.
fn heap() -> Result<usize, String> {
    let without = |error| format!("the allocator has no statistics: {error}");
    epoch::advance().map_err(without)?;
    stats::active::read().map_err(without)
}

/// The allocator gives back what is free in a thread of its own, even where nothing allocates any more.
pub(super) fn free_in_background(on: bool) {
    if let Err(error) = background_thread::write(on) {
        tracing::warn!(target: "main", "the heap can't be shrunk in the background: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_smoothed() {
        let mut usage = Usage::default();
        assert_eq!(usage.after(100.0, 1000.0), 0.0);
        assert!((usage.after(200.0, 1100.0) - 0.05).abs() < 1e-9);
        assert!((usage.after(200.0, 1200.0) - 0.0475).abs() < 1e-9);
        assert!((usage.after(200.0, 1200.0) - 0.0475).abs() < 1e-9, "no time passed");
    }

    #[test]
    fn the_machine_says_how_busy_it_is() {
        let text = "cpu  10 20 30 940 5 0 0 0 0 0\ncpu0 1 2 3 4\n";
        assert_eq!(host_times(text), Some((60.0, 1000.0)));
        assert_eq!(host_times("cpu  10 x 30\n"), None);
        assert_eq!(host_times(""), None);
    }

    #[test]
    fn a_file_holds_the_pressure() {
        let directory = std::env::temp_dir().join(format!("nuncio-pressure-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("pressure");
        let overload = Overload::new(Default::default());
        let mut monitor = Monitor::new(&MonitorKind::Injected(path.display().to_string()), &overload);
        assert!(monitor.measure().is_err());
        for (text, expected) in [("0.5\n", Some(0.5)), ("1", Some(1.0)), ("1.1", None), ("x", None), ("NaN", None)] {
            fs::write(&path, text).unwrap();
            assert_eq!(monitor.measure().ok(), expected, "{text}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
