//! The command line of an epoch: the supervisor's, with another epoch. Pure.

use crate::options::Options;
use std::ffi::OsString;

/// What the epochs are started with.
#[derive(Debug)]
pub(super) struct Arguments {
    /// Without those that are set for each epoch.
    kept: Vec<OsString>,
    /// The first epoch chooses its base id, the others are told.
    dynamic: bool,
    /// What the first epoch has told.
    pub(super) base_id: Option<u32>,
}

impl Arguments {
    /// From the supervisor's own command line, without the name of the program, and what was understood of it. The error
    /// names what can't be supervised.
    pub(super) fn new(options: &Options, all: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
        if options.disable_hot_restart {
            return Err("--supervise restarts by hot restart: leave --disable-hot-restart out".to_owned());
        }
        if options.restart_epoch != 0 {
            return Err("--supervise counts the epochs itself: leave --restart-epoch out".to_owned());
        }
        if matches!(options.config_path.as_deref(), Some("-" | "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0")) {
            return Err(
                "--supervise: each epoch reads the configuration anew, which standard input has once".to_owned()
            );
        }
        let mut kept = Vec::new();
        let mut all = all;
        while let Some(argument) = all.next() {
            match argument.to_str() {
                Some("--") => {
                    kept.push(argument);
                    kept.extend(all);
                    break;
                }
                Some("--supervise" | "--use-dynamic-base-id") => {}
                Some("--restart-epoch" | "--base-id") => drop(all.next()),
                Some(text) if text.starts_with("--restart-epoch=") || text.starts_with("--base-id=") => {}
                _ => kept.push(argument),
            }
        }
        let base_id = (!options.use_dynamic_base_id).then_some(options.base_id);
        Ok(Arguments { kept, dynamic: options.use_dynamic_base_id, base_id })
    }

    /// The command line of an epoch.
    pub(super) fn of_epoch(&self, number: u32) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec!["--restart-epoch".into(), number.to_string().into()];
        match self.base_id {
            Some(id) if number > 0 || !self.dynamic => all.extend(["--base-id".into(), id.to_string().into()]),
            _ => all.push("--use-dynamic-base-id".into()),
        }
        all.extend(self.kept.iter().cloned());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn arguments(line: &str) -> Result<Arguments, String> {
        let all = || line.split_ascii_whitespace();
        let options = Options::parse_from(std::iter::once("nuncio").chain(all()));
        Arguments::new(&options, all().map(OsString::from))
    }

    fn of_epoch(arguments: &Arguments, number: u32) -> String {
        let all: Vec<String> = arguments.of_epoch(number).into_iter().map(|a| a.into_string().unwrap()).collect();
        all.join(" ")
    }

    #[test]
    fn lines() {
        let check = |line: &str, expected: &str| assert_eq!(of_epoch(&arguments(line).unwrap(), 3), expected, "{line}");
        check("--supervise -c x.yaml", "--restart-epoch 3 --base-id 0 -c x.yaml");
        check("-c x.yaml --base-id 7 --supervise -l info", "--restart-epoch 3 --base-id 7 -c x.yaml -l info");
        check("--base-id=7 --restart-epoch=0 --supervise", "--restart-epoch 3 --base-id 7");
        check("--supervise -- --supervise --base-id 8", "--restart-epoch 3 --base-id 0 -- --supervise --base-id 8");
    }

    #[test]
    fn a_chosen_base_id_is_kept() {
        let mut arguments = arguments("--use-dynamic-base-id --supervise").unwrap();
        assert_eq!(of_epoch(&arguments, 0), "--restart-epoch 0 --use-dynamic-base-id");
        arguments.base_id = Some(77);
        assert_eq!(of_epoch(&arguments, 1), "--restart-epoch 1 --base-id 77");
    }

    #[test]
    fn what_can_not_be_supervised() {
        for line in ["--restart-epoch 1", "--disable-hot-restart", "-c /dev/stdin"] {
            assert!(arguments(line).unwrap_err().starts_with("--supervise"), "{line}");
        }
    }
}
