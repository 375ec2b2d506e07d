//! The machine that a run happens on: which processor the proxy gets and which the load, and what else used them meanwhile.
//!
//! Pinning and limits are set with `taskset` and `prlimit` of util-linux, so that nothing here needs unsafe code.

use std::fs;
use std::process::{Command, Stdio};

/// Clock ticks per second in `/proc`: `USER_HZ`, 100 on every Linux of the platforms that Nuncio runs on.
pub const TICKS_PER_SECOND: f64 = 100.0;

/// Which processor does what.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    /// The one of the proxy, and of nothing else.
    pub proxy: usize,
    /// The one of this process: the load and the origin.
    pub load: usize,
}

impl Processors {
    /// The given ones, or the first allowed one for the load and the last one for the proxy.
    pub fn choose(proxy: Option<usize>, load: Option<usize>) -> Result<Self, String> {
        let allowed = allowed()?;
        let first = allowed.first().copied().ok_or("no processor is allowed")?;
        let last = allowed.last().copied().unwrap_or(first);
        let chosen = Self { proxy: proxy.unwrap_or(last), load: load.unwrap_or(first) };
        if chosen.proxy == chosen.load {
            println!("the proxy and the load share processor {}: the figures say little", chosen.proxy);
        }
        Ok(chosen)
    }

    /// Keeps this process on the processor of the load.
    pub fn pin(self) -> Result<(), String> {
        let id = std::process::id().to_string();
        quiet(Command::new("taskset").args(["-a", "-c", "-p", &self.load.to_string(), &id]))
    }
}

/// Raises the soft limit of descriptors of this process, which its children inherit, to the hard one, and returns it.
pub fn raise_descriptors() -> Result<u64, String> {
    let limits = fs::read_to_string("/proc/self/limits").map_err(|error| format!("/proc/self/limits: {error}"))?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).ok_or("no limit of open files")?;
    let hard = line.split_whitespace().nth(4).and_then(|text| text.parse().ok()).unwrap_or(1 << 20);
    let id = std::process::id().to_string();
    quiet(Command::new("prlimit").args(["--pid", &id, &format!("--nofile={hard}:{hard}")]))?;
    Ok(hard)
}

/// Busy ticks of a processor so far (`/proc/stat`), whoever used them; the second number is those stolen by the hypervisor.
pub fn busy_ticks(processor: usize) -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{processor} ");
    let fields: Vec<f64> = text
        .lines()
        .find_map(|line| line.strip_prefix(&name))
        .map(|line| line.split_whitespace().filter_map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    let field = |index: usize| fields.get(index).copied().unwrap_or(0.0);
    // user, nice, system, (idle, iowait,) irq, softirq; then steal.
    (field(0) + field(1) + field(2) + field(5) + field(6), field(7))
}

/// Model and kernel, for the report.
pub fn describe() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
    let model = processors.lines().find(|line| line.starts_with("model name")).and_then(value);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {} processors, Linux {}, load {}",
        model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        allowed().map_or(0, |list| list.len()),
        kernel.trim(),
        load.split_whitespace().next().unwrap_or("unknown")
    )
}

fn allowed() -> Result<Vec<usize>, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    Ok(parse_list(line.trim()))
}

/// `0-2,5` → 0, 1, 2, 5.
fn parse_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn lists_of_processors() {
        let check = |text: &str, expected: &[usize]| assert_eq!(parse_list(text), expected, "{text}");
        check("0", &[0]);
        check("0-2,5", &[0, 1, 2, 5]);
        check("1,3", &[1, 3]);
        check("", &[]);
    }
}
