//! What a configuration changes of the metrics: labels left out, set by expressions and added; metrics dropped; metrics of its
//! own.

use super::{Kinds, LONGEST_LABEL, Metric};
use nuncio_cel::Program;
use nuncio_stream_info::LogContext;
use std::collections::BTreeMap;

/// The changes of a configuration.
#[derive(Default)]
pub(crate) struct Overrides {
    /// Expressions; whether each is the value of a metric, and not of a label.
    pub expressions: Vec<Expression>,
    /// By metric.
    standard: [Changes; Metric::ALL.len()],
    /// Metrics of its own.
    pub custom: Vec<Custom>,
}

/// An expression.
pub(crate) struct Expression {
    pub program: Program,
    /// The value of a metric, and not of a label.
    pub is_amount: bool,
}

/// A metric of the configuration's own.
pub(crate) struct Custom {
    /// With `istio_`.
    pub name: Box<str>,
    pub kind: Kinds,
    /// Its expression.
    pub value: usize,
    pub tags: Changes,
}

/// Changes to the labels of a metric.
#[derive(Default)]
pub(crate) struct Changes {
    /// The metric is not counted.
    pub drop: bool,
    /// Standard labels: the expression in their place, or none where they are left out.
    pub replaced: BTreeMap<Box<str>, Option<usize>>,
    /// Further labels with their expressions.
    pub added: Vec<(Box<str>, usize)>,
}

impl Changes {
    /// The labels of a series; none if it is not counted.
    pub(super) fn apply<'a>(
        &'a self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        values: &'a [Box<str>],
    ) -> Option<Vec<(&'a str, &'a str)>> {
        if self.drop {
            return None;
        }
        let value = |at: usize| values.get(at).map_or("unknown", |value| value);
        let standard = labels.filter_map(|(name, own)| match self.replaced.get(name) {
            None => Some((name, own)),
            Some(Some(at)) => Some((name, value(*at))),
            Some(None) => None,
        });
        Some(standard.chain(self.added.iter().map(|(name, at)| (&**name, value(*at)))).collect())
    }
}

impl Overrides {
    pub(super) fn of(&self, metric: Metric) -> &Changes {
        &self.standard[metric as usize]
    }

    pub(super) fn of_mut(&mut self, metric: Metric) -> &mut Changes {
        &mut self.standard[metric as usize]
    }

    /// The values of the expressions; `unknown` for what has none.
    pub(crate) fn evaluate(&self, context: &LogContext<'_>) -> Vec<Vec<u8>> {
        let one = |expression: &Expression| {
            let mut value = Vec::new();
            if !expression.program.write(context, &mut value) && !expression.is_amount {
                value = b"unknown".to_vec();
            }
            value.truncate(LONGEST_LABEL);
            value
        };
        self.expressions.iter().map(one).collect()
    }

    /// Those values that are in labels.
    pub(super) fn labels<'a>(&'a self, values: &'a [Vec<u8>]) -> impl Iterator<Item = &'a [u8]> {
        let labels = self.expressions.iter().zip(values).filter(|(expression, _)| !expression.is_amount);
        labels.map(|(_, value)| value.as_slice())
    }
}
