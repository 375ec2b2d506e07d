//! The control group that the process is in, as a container sees it: mounted at `/sys/fs/cgroup`.

use std::fs;
use std::path::Path;

/// Which hierarchy there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControlGroup {
    /// One hierarchy (version 2).
    Unified,
    /// One for each controller (version 1).
    Separate,
}

impl ControlGroup {
    pub(super) fn find() -> Result<ControlGroup, String> {
        if Path::new("/sys/fs/cgroup/memory.current").exists() || Path::new("/sys/fs/cgroup/cpu.max").exists() {
            Ok(ControlGroup::Unified)
        } else if Path::new("/sys/fs/cgroup/memory").exists() {
            Ok(ControlGroup::Separate)
        } else {
            Err("/sys/fs/cgroup shows no control group".to_owned())
        }
    }

    /// Bytes in use, and the limit, if there is one.
    pub(super) fn memory(self) -> Result<(u64, Option<u64>), String> {
        let (used, limit) = match self {
            ControlGroup::Unified => ("memory.current", "memory.max"),
            ControlGroup::Separate => ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes"),
        };
        let used = number(&read(used)?).ok_or("the memory of the control group is no number")?;
        Ok((used, number(&read(limit)?)))
    }

    /// Seconds of CPU time that the group has had.
    pub(super) fn cpu_seconds(self) -> Result<f64, String> {
        let (used, units) = match self {
            ControlGroup::Unified => (field(&read("cpu.stat")?, "usage_usec"), 1e6),
            ControlGroup::Separate => (number(&read("cpuacct/cpuacct.usage")?), 1e9),
        };
        Ok(used.ok_or("the CPU time of the control group is no number")? as f64 / units)
    }

    /// CPUs that the group may use.
    pub(super) fn cpus(self) -> Result<f64, String> {
        let limit = match self {
            ControlGroup::Unified => quota(&read("cpu.max")?),
            ControlGroup::Separate => {
                quota(&format!("{} {}", read("cpu/cpu.cfs_quota_us")?.trim(), read("cpu/cpu.cfs_period_us")?.trim()))
            }
        };
        Ok(limit.unwrap_or_else(|| std::thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64)))
    }
}

fn read(file: &str) -> Result<String, String> {
    let path = Path::new("/sys/fs/cgroup").join(file);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// A number; none for `max`.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The value of a line `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| number(value))
}

/// `quota period` in µs, as CPUs; none without a limit.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (number(quota)?, number(period)?);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_understood() {
        assert_eq!((number("12\n"), number("max\n")), (Some(12), None));
        assert_eq!(field("usage_usec 5\nuser_usec 4\n", "usage_usec"), Some(5));
        assert_eq!(
            (quota("200000 100000\n"), quota("max 100000\n"), quota("-1 100000"), quota("1 0")),
            (Some(2.0), None, None, None)
        );
    }
}
