//! How many workers this machine, or this container, has CPUs for.
//!
//! Owns: reading the affinity mask and the cgroup quota. The parsing is pure; only [`available`] reads files.

use std::fs;
use std::path::{Path, PathBuf};

/// CPUs that this process may use, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// CPUs in the affinity mask (cpuset, `taskset`).
    pub affinity: usize,
    /// CPUs of the cgroup quota, rounded up; `None`: no quota.
    pub quota: Option<usize>,
}

impl Cpus {
    /// The number of workers where `--concurrency` is not given; at least 1. With `--cpuset-threads` Envoy looks at the
    /// affinity mask alone.
    pub fn concurrency(self, cpuset_threads: bool) -> usize {
        let quota = if cpuset_threads { None } else { self.quota };
        self.affinity.min(quota.unwrap_or(usize::MAX)).max(1)
    }
}

/// What this process may use now.
pub fn available() -> Cpus {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let affinity =
        affinity(&status).or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Cpus { affinity, quota: quota(&cgroups, &mounts, |path| fs::read_to_string(path).ok()) }
}

/// CPUs in the line `Cpus_allowed_list` of `/proc/self/status`: `0-3,7`.
fn affinity(status: &str) -> Option<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().split(',').try_fold(0usize, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// The smallest quota of this process's cgroup and of those above it, in CPUs, rounded up.
fn quota(cgroups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let mut smallest: Option<f64> = None;
    for (version, directory) in directories(cgroups, mounts) {
        let found = match version {
            Version::One => {
                let file = |name| read(&directory.join(name));
                file("cpu.cfs_quota_us").zip(file("cpu.cfs_period_us")).and_then(|(q, p)| ratio(&q, &p))
            }
            Version::Two => read(&directory.join("cpu.max")).and_then(|text| {
                let (quota, period) = text.trim().split_once(' ')?;
                ratio(quota, period)
            }),
        };
        smallest = match (smallest, found) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    // A quota of 1.5 CPUs gets two workers: one would leave half a CPU unused.
    smallest.map(|cpus| (cpus.ceil() as usize).max(1))
}

/// `max` and `-1` mean no quota.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (i64, i64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

/// The directories that may hold a quota for this process: its own cgroup, and every one above it that is visible.
fn directories(cgroups: &str, mounts: &str) -> Vec<(Version, PathBuf)> {
    let mut all = Vec::new();
    for line in cgroups.lines() {
        // hierarchy:controllers:path
        let mut fields = line.splitn(3, ':');
        let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let version = match hierarchy {
            "0" if controllers.is_empty() => Version::Two,
            _ if controllers.split(',').any(|name| name == "cpu") => Version::One,
            _ => continue,
        };
        if let Some((mount_point, root)) = mount(mounts, version) {
            // In a cgroup namespace the path starts at the root of the mount; without one it may start above it.
            let below = path.strip_prefix(root.as_str()).unwrap_or(path).trim_start_matches('/');
            let own = mount_point.join(below);
            let up = own.ancestors().take_while(|directory| directory.starts_with(&mount_point));
            all.extend(up.map(|directory| (version, directory.to_owned())));
        }
    }
    all
}

/// Where the hierarchy is mounted, and which of its directories that shows.
fn mount(mounts: &str, version: Version) -> Option<(PathBuf, String)> {
    mounts.lines().find_map(|line| {
        // id parent major:minor root mount-point options [optional]... - type source super-options
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ');
        let (root, point) = (mount.nth(3)?, mount.next()?);
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        let fits = match version {
            Version::Two => kind == "cgroup2",
            Version::One => kind == "cgroup" && options.split(',').any(|name| name == "cpu"),
        };
        let root = if root == "/" { "" } else { root };
        fits.then(|| (PathBuf::from(point), root.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_list() {
        let check = |list: &str, expected: Option<usize>| {
            assert_eq!(
                affinity(&format!("Name:\tx\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n")),
                expected,
                "{list}"
            );
        };
        check("0", Some(1));
        check("0-3", Some(4));
        check("0-3,7,9-10", Some(7));
        check("3-0", None);
        check("", None);
        check("0-18446744073709551615", None);
        assert_eq!(affinity("nothing"), None);
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    const V1: &str = "29 23 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const V1_DOCKER: &str = "29 23 0:25 /docker/abc /sys/fs/cgroup/cpu ro master:3 - cgroup cgroup rw,cpu\n";

    #[test]
    fn cgroup_quota() {
        let check = |cgroups: &str, mounts: &str, files: &[(&str, &str)], expected: Option<usize>| {
            let read = |path: &Path| {
                files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(quota(cgroups, mounts, read), expected, "{cgroups:?} {files:?}");
        };
        let v2 = "0::/pod/app\n";
        check(v2, V2, &[("/sys/fs/cgroup/pod/app/cpu.max", "150000 100000\n")], Some(2));
        check(v2, V2, &[("/sys/fs/cgroup/pod/app/cpu.max", "max 100000\n")], None);
        check(v2, V2, &[("/sys/fs/cgroup/pod/app/cpu.max", "1000 100000\n")], Some(1));
        // The pod has less than its container.
        let both =
            [("/sys/fs/cgroup/pod/app/cpu.max", "800000 100000"), ("/sys/fs/cgroup/pod/cpu.max", "300000 100000")];
        check(v2, V2, &both, Some(3));
        check("0::/\n", V2, &[("/sys/fs/cgroup/cpu.max", "400000 100000")], Some(4));
        check(v2, V2, &[], None);
        check(v2, V2, &[("/sys/fs/cgroup/pod/app/cpu.max", "garbage")], None);
        check(v2, V2, &[("/sys/fs/cgroup/pod/app/cpu.max", "100000 0")], None);
        let v1 = "4:memory:/x\n3:cpu,cpuacct:/kube/app\n0::/\n";
        let v1_files = |quota| {
            [
                ("/sys/fs/cgroup/cpu,cpuacct/kube/app/cpu.cfs_quota_us", quota),
                ("/sys/fs/cgroup/cpu,cpuacct/kube/app/cpu.cfs_period_us", "100000\n"),
            ]
        };
        check(v1, V1, &v1_files("250000\n"), Some(3));
        check(v1, V1, &v1_files("-1\n"), None);
        let docker =
            [("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000"), ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")];
        check("3:cpu:/docker/abc\n", V1_DOCKER, &docker, Some(1));
        check("", V2, &[], None);
        check("bad\n0:\n", "bad mount - x\n", &[], None);
    }

    #[test]
    fn concurrency_is_the_smaller_one() {
        let check = |affinity, quota, cpuset, expected| {
            assert_eq!(Cpus { affinity, quota }.concurrency(cpuset), expected);
        };
        check(8, None, false, 8);
        check(8, Some(3), false, 3);
        check(2, Some(3), false, 2);
        check(8, Some(3), true, 8);
        check(0, None, false, 1);
    }

    #[test]
    fn this_machine_has_a_cpu() {
        let cpus = available();
        assert!(cpus.concurrency(false) >= 1 && cpus.concurrency(true) == cpus.affinity, "{cpus:?}");
    }
}
