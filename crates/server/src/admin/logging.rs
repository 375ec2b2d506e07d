//! `/logging`: the levels of the program's own log.

use super::endpoint::Call;
use super::request::Parameters;
use super::response::Response;
use crate::logging::{COMPONENTS, ENVOYS_OTHER_COMPONENTS, LEVELS, LogControl};

/// `/logging`
pub(super) fn logging(call: &Call<'_>) -> Response {
    let log = &call.admin.server.log;
    match parse(call.parameters) {
        Ok(change) => {
            change.apply(log);
            Response::text(list(log) + &change.without_effect())
        }
        Err(error) => Response::bad_request(format!("error: {error}\n\n{}{}", usage(), list(log))),
    }
}

fn list(log: &LogControl) -> String {
    let lines: String = log.levels().map(|(name, level)| format!("  {name}: {level}\n")).collect();
    format!("active loggers:\n{lines}\n")
}

/// What to change.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    All(String),
    Some(Vec<(String, String)>),
}

impl Change {
    fn apply(&self, log: &LogControl) {
        let done = match self {
            Change::Nothing => true,
            Change::All(level) => log.set_all(level),
            Change::Some(levels) => {
                levels.iter().filter(|(name, _)| is_here(name)).all(|(name, level)| log.set(name, level))
            }
        };
        // All names and levels were looked at before.
        debug_assert!(done);
    }

    /// A line for each logger of Envoy that there is none of here.
    fn without_effect(&self) -> String {
        let Change::Some(levels) = self else { return String::new() };
        let others = levels.iter().filter(|(name, _)| !is_here(name));
        others.map(|(name, _)| format!("there is no component {name} here; its level has no effect\n")).collect()
    }
}

/// Whether lines of the log come from this component.
fn is_here(name: &str) -> bool {
    COMPONENTS.contains(&name)
}

/// What the parameters ask for: all of it can be done, or it is an error.
fn parse(parameters: &Parameters) -> Result<Change, &'static str> {
    if parameters.len() > 1 {
        return Err("invalid number of parameters");
    }
    let Some((name, value)) = parameters.iter().next().filter(|(_, value)| !value.is_empty()) else {
        return Ok(Change::Nothing);
    };
    match name {
        "level" => level(value).map(Change::All),
        "group" => Err("group parameter requires fine-grain logging to be enabled"),
        "paths" => {
            let pairs = value.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
                let (name, value) = pair.split_once(':').unwrap_or((pair, ""));
                component(name, value)
            });
            pairs.collect::<Result<_, _>>().map(Change::Some)
        }
        name => component(name, value).map(|change| Change::Some(vec![change])),
    }
}

fn component(name: &str, value: &str) -> Result<(String, String), &'static str> {
    if name.is_empty() || value.is_empty() {
        return Err("empty logger name or empty logger level");
    }
    let level = level(value)?;
    match is_here(name) || ENVOYS_OTHER_COMPONENTS.contains(&name) {
        true => Ok((name.to_owned(), level)),
        false => Err("unknown logger name"),
    }
}

fn level(level: &str) -> Result<String, &'static str> {
    LEVELS.contains(&level).then(|| level.to_owned()).ok_or("unknown logger level")
}

fn usage() -> String {
    format!(
        "usage: /logging?<name>=<level> (change single level)\n\
         usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
         usage: /logging?level=<level> (change all levels)\n\
         usage: /logging?group=<group_name>:<level> (change group of loggers)\n\
         levels: {} \n",
        LEVELS.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let some = |pairs: &[(&str, &str)]| {
            Ok(Change::Some(pairs.iter().map(|(name, level)| (name.to_string(), level.to_string())).collect()))
        };
        let check = |query: &str, expected| assert_eq!(parse(&Parameters::parse(query)), expected, "{query}");
        for nothing in ["", "foo", "paths=", "level="] {
            check(nothing, Ok(Change::Nothing));
        }
        check("level=warning", Ok(Change::All("warning".to_owned())));
        check("admin=debug", some(&[("admin", "debug")]));
        check("paths=admin:info,http:off", some(&[("admin", "info"), ("http", "off")]));
        check("dns=debug", some(&[("dns", "debug")]));
        let dns = parse(&Parameters::parse("paths=dns:debug,admin:info")).unwrap();
        assert_eq!(dns.without_effect(), "there is no component dns here; its level has no effect\n");
        check("level=bad", Err("unknown logger level"));
        check("level=warn", Err("unknown logger level"));
        check("nope=debug", Err("unknown logger name"));
        check("paths=admin:info,x:debug", Err("unknown logger name"));
        check("paths=admin:bad", Err("unknown logger level"));
        check("paths=admin", Err("empty logger name or empty logger level"));
        check("paths=:debug", Err("empty logger name or empty logger level"));
        check("group=admin:debug", Err("group parameter requires fine-grain logging to be enabled"));
        check("level=info&admin=debug", Err("invalid number of parameters"));
    }
}
