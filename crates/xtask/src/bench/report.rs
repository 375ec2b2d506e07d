//! The outcome of a run: medians, ratios of the same round, targets; as Markdown tables and as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::figure::{self, Figure, Rule};
use super::peer::Kind;
use super::scenario::{Sample, Scenario};

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    groups: Vec<Group>,
}

/// A variant of a scenario.
struct Group {
    scenario: Scenario,
    variant: String,
    rows: Vec<Row>,
}

/// A figure: the value of each round for each peer.
struct Row {
    figure: &'static Figure,
    values: BTreeMap<Kind, BTreeMap<usize, f64>>,
}

/// Median, smallest and largest of several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// A target and how it was met.
pub struct Verdict {
    pub rule: Rule,
    /// What is held against it: a figure, or a ratio.
    pub value: f64,
    pub met: bool,
}

impl Report {
    /// Adds what one peer did in one round.
    pub fn add(&mut self, scenario: Scenario, peer: Kind, round: usize, samples: Vec<Sample>) {
        for Sample { variant, values } in samples {
            let place = self.groups.iter().position(|group| group.scenario == scenario && group.variant == variant);
            let place = place.unwrap_or_else(|| {
                self.groups.push(Group { scenario, variant, rows: Vec::new() });
                self.groups.len() - 1
            });
            values.into_iter().for_each(|(figure, value)| self.groups[place].add(figure, peer, round, value));
        }
    }

    /// A table for each variant.
    pub fn markdown(&self, peers: &[Kind]) -> String {
        let mut text = String::new();
        for group in &self.groups {
            text.push_str(&format!("\n**{}: {}**\n\n", group.scenario.name(), group.variant));
            text.push_str(&align(&group.table(peers)));
        }
        text
    }

    /// Medians, ratios and targets; and every value of every round.
    pub fn json(&self) -> Value {
        let group = |group: &Group| {
            let rows: Map<String, Value> =
                group.rows.iter().map(|row| (row.figure.key.into(), row.json(group))).collect();
            json!({ "scenario": group.scenario.name(), "variant": group.variant, "figures": rows })
        };
        self.groups.iter().map(group).collect()
    }

    /// How many targets were met, and how many there were figures for.
    pub fn met(&self) -> (usize, usize) {
        let verdicts = self.groups.iter().flat_map(|group| group.rows.iter().flat_map(|row| row.verdicts(group)));
        verdicts.fold((0, 0), |(met, all), verdict| (met + usize::from(verdict.met), all + 1))
    }
}

impl Group {
    fn add(&mut self, figure: &'static Figure, peer: Kind, round: usize, value: f64) {
        let place = self.rows.iter().position(|row| row.figure == figure).unwrap_or_else(|| {
            self.rows.push(Row { figure, values: BTreeMap::new() });
            self.rows.len() - 1
        });
        self.rows[place].values.entry(peer).or_default().insert(round, value);
    }

    fn table(&self, peers: &[Kind]) -> Vec<Vec<String>> {
        let here: Vec<Kind> =
            peers.iter().copied().filter(|peer| self.rows.iter().any(|row| row.values.contains_key(peer))).collect();
        let others: Vec<Kind> = match here.contains(&Kind::Nuncio) {
            true => here.iter().copied().filter(|peer| matches!(peer, Kind::Envoy | Kind::Haproxy)).collect(),
            false => Vec::new(),
        };
        let mut head = vec![String::new()];
        head.extend(here.iter().map(|peer| peer.name().to_owned()));
        head.extend(others.iter().map(|peer| format!("÷ {}", peer.name())));
        head.push("target".into());
        let mut lines = vec![head];
        for row in &self.rows {
            let mut line = vec![row.figure.label.to_owned()];
            line.extend(
                here.iter().map(|peer| row.spread(*peer).map_or("–".into(), |it| it.text(row.figure.decimals))),
            );
            line.extend(others.iter().map(|peer| row.ratio(*peer).map_or("–".into(), |it| it.text(2))));
            let verdict = |it: Verdict| format!("{}: {}", it.rule.text(), if it.met { "met" } else { "**missed**" });
            line.push(row.verdicts(self).into_iter().map(verdict).collect::<Vec<_>>().join("; "));
            lines.push(line);
        }
        lines
    }
}

impl Row {
    fn spread(&self, peer: Kind) -> Option<Spread> {
        Spread::of(self.values.get(&peer)?.values().copied().collect())
    }

    /// Nuncio's figure by the peer's, each from the same round.
    fn ratio(&self, peer: Kind) -> Option<Spread> {
        let theirs = self.values.get(&peer)?;
        let ours = self.values.get(&Kind::Nuncio)?;
        let ratio = |(round, ours): (&usize, &f64)| Some(ours / theirs.get(round).filter(|value| **value > 0.0)?);
        Spread::of(ours.iter().filter_map(ratio).collect())
    }

    fn verdicts(&self, group: &Group) -> Vec<Verdict> {
        let verdict = |target: &figure::Target| {
            let value = match target.rule {
                Rule::Against(peer, _) | Rule::Ahead(peer, _) => self.ratio(peer),
                Rule::AtMost(_) | Rule::Flat(_) => self.spread(Kind::Nuncio),
            };
            value.map(|it| Verdict { rule: target.rule, value: it.median, met: target.rule.holds(it.median) })
        };
        figure::targets(group.scenario.name(), &group.variant, self.figure).filter_map(verdict).collect()
    }

    fn json(&self, group: &Group) -> Value {
        let peers: Map<String, Value> = self
            .values
            .iter()
            .map(|(peer, rounds)| {
                let spread = self.spread(*peer).map(Spread::json);
                let ratio = (*peer != Kind::Nuncio).then(|| self.ratio(*peer).map(Spread::json)).flatten();
                (peer.name().into(), json!({ "rounds": rounds, "spread": spread, "nuncio_ratio": ratio }))
            })
            .collect();
        let targets: Vec<Value> = self
            .verdicts(group)
            .iter()
            .map(|it| json!({ "target": it.rule.text(), "value": it.value, "met": it.met }))
            .collect();
        json!({ "peers": peers, "targets": targets })
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = values[middle];
        let median = if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 };
        Some(Self { median, least, most })
    }

    fn text(self, decimals: usize) -> String {
        let Self { median, least, most } = self;
        if least == most {
            return format!("{median:.decimals$}");
        }
        format!("{median:.decimals$} ({least:.decimals$}–{most:.decimals$})")
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.least, "max": self.most })
    }
}

/// A Markdown table whose columns also line up as plain text.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (cell, &width) in line.iter().zip(&widths) {
            text.push_str(&format!("| {cell:width$} "));
        }
        text.push_str("|\n");
        if index == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Report, Spread};
    use crate::bench::figure;
    use crate::bench::peer::Kind;
    use crate::bench::scenario::{Sample, Scenario};

    #[test]
    fn spreads() {
        let check = |values: &[f64], expected: Option<(f64, f64, f64)>| {
            let expected = expected.map(|(median, least, most)| Spread { median, least, most });
            assert_eq!(Spread::of(values.to_vec()), expected, "{values:?}");
        };
        check(&[], None);
        check(&[3.0], Some((3.0, 3.0, 3.0)));
        check(&[3.0, 1.0, 2.0], Some((2.0, 1.0, 3.0)));
        check(&[4.0, 1.0], Some((2.5, 1.0, 4.0)));
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut report = Report::default();
        // The machine became twice as slow in between; the ratio did not change.
        for (round, factor) in [(0, 1.0), (1, 2.0)] {
            for (peer, value) in [(Kind::Nuncio, 10.0), (Kind::Envoy, 25.0), (Kind::Haproxy, 10.0)] {
                let values = vec![(&figure::CPU_PER_REQUEST, value * factor)];
                report.add(Scenario::Http, peer, round, vec![Sample { variant: "1 header".into(), values }]);
            }
        }
        let text = report.markdown(&[Kind::Nuncio, Kind::Envoy, Kind::Haproxy, Kind::Nginx]);
        let line = text.lines().last().unwrap().split('|').map(str::trim).collect::<Vec<_>>();
        let expected = [
            "",
            "CPU per request, µs",
            "15.00 (10.00–20.00)",
            "37.50 (25.00–50.00)",
            "15.00 (10.00–20.00)",
            "0.40",
            "1.00",
            "≤ 0.42 × envoy: met; ≤ 0.85 × haproxy: **missed**",
            "",
        ];
        assert_eq!(line, expected);
        assert_eq!(report.met(), (1, 2));
        assert_eq!(report.json()[0]["figures"]["cpu_us_per_request"]["peers"]["envoy"]["nuncio_ratio"]["median"], 0.4);
    }
}
