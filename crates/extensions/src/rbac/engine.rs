//! Rules, and what they lead to.

use super::input::Input;
use super::rule::{Rule, Subject};
use super::stats::PolicyName;
use nuncio_cel::Program;
use nuncio_matcher::MatchTree;
use nuncio_stream_info::details;

/// `RBAC.Action`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Who matches may; nobody else.
    Allow,
    /// Who matches may not; everybody else may.
    Deny,
    /// Everybody may; who matches is to be logged.
    Log,
}

/// `Policy`: it matches if one permission, one principal and the condition do.
#[derive(Debug)]
pub(super) struct Policy {
    pub name: PolicyName,
    pub permissions: Box<[Rule]>,
    pub principals: Box<[Rule]>,
    pub condition: Option<Program>,
}

impl Policy {
    fn matches(&self, subject: Subject<'_>) -> bool {
        self.permissions.iter().any(|rule| rule.holds(subject))
            && self.principals.iter().any(|rule| rule.holds(subject))
            && self.condition.as_ref().is_none_or(|condition| condition.holds(&subject.context()))
    }
}

/// `config.rbac.v3.RBAC`, or a matcher that leads to actions.
#[derive(Debug)]
pub(crate) enum Engine {
    /// `rules`
    Rules(Rules),
    /// `matcher`
    Matcher {
        /// The tree.
        tree: Box<MatchTree<Input, Matched>>,
        /// One of its actions is to log.
        logs: bool,
    },
}

/// `config.rbac.v3.Action`
#[derive(Debug)]
pub(crate) struct Matched {
    pub(super) name: PolicyName,
    pub(super) action: Action,
}

/// `config.rbac.v3.RBAC`
#[derive(Debug)]
pub(crate) struct Rules {
    pub(super) action: Action,
    /// In the order of their names.
    pub(super) policies: Box<[Policy]>,
}

/// What an engine says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict<'e> {
    pub allowed: bool,
    /// The policy that decided.
    pub policy: Option<&'e PolicyName>,
    /// Whether the request is to be logged, if the engine has a say in it.
    pub log: Option<bool>,
}

impl Engine {
    /// Asks.
    pub(crate) fn ask(&self, subject: Subject<'_>) -> Verdict<'_> {
        match self {
            Engine::Rules(rules) => rules.ask(subject),
            // Who matches nothing may not.
            Engine::Matcher { tree, logs } => match tree.evaluate(&|input: &Input| input.value(subject)) {
                Some(Matched { name, action }) => Verdict {
                    allowed: *action != Action::Deny,
                    policy: Some(name),
                    log: logs.then_some(*action == Action::Log),
                },
                None => Verdict { allowed: false, policy: None, log: None },
            },
        }
    }
}

impl Rules {
    fn ask(&self, subject: Subject<'_>) -> Verdict<'_> {
        let policy = self.policies.iter().find(|policy| policy.matches(subject)).map(|policy| &policy.name);
        let matched = policy.is_some();
        match self.action {
            Action::Allow => Verdict { allowed: matched, policy, log: None },
            Action::Deny => Verdict { allowed: !matched, policy, log: None },
            Action::Log => Verdict { allowed: true, policy, log: Some(matched) },
        }
    }
}

/// The details of a refusal. They are one word: they stand in logs.
pub(crate) fn denied_by(verdict: Verdict<'_>) -> String {
    let policy = verdict.policy.map_or("none", |policy| &policy.name);
    let word: String = policy.chars().map(|c| if c.is_ascii_whitespace() { '_' } else { c }).collect();
    format!("{}[{word}]", details::RBAC_ACCESS_DENIED)
}
