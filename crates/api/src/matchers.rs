//! Messages of `xds.type.matcher.v3` that envoy-types lacks (`xds/type/matcher/v3/{cel,http_inputs,ip}.proto`).

use crate::pb::xds::core::v3::CidrRange;
use crate::pb::xds::r#type::matcher::v3::matcher::OnMatch;
use crate::pb::xds::r#type::v3::CelExpression;
use prost::{Message, Name};

const PACKAGE: &str = "xds.type.matcher.v3";

/// A matcher that is an expression. Its input is [`HttpAttributesCelMatchInput`].
#[derive(Clone, PartialEq, Message)]
pub struct CelMatcher {
    /// The expression; it matches if it is true.
    #[prost(message, optional, tag = "1")]
    pub expr_match: Option<CelExpression>,
    /// For people.
    #[prost(string, tag = "2")]
    pub description: String,
}

/// The attributes of a request.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct HttpAttributesCelMatchInput {}

/// A tree by address ranges.
#[derive(Clone, PartialEq, Message)]
pub struct IpMatcher {
    /// Ranges with what they lead to.
    #[prost(message, repeated, tag = "1")]
    pub range_matchers: Vec<IpRangeMatcher>,
}

/// `IPMatcher.IPRangeMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct IpRangeMatcher {
    /// The ranges.
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<CidrRange>,
    /// What they lead to.
    #[prost(message, optional, tag = "2")]
    pub on_match: Option<OnMatch>,
    /// No shorter range is tried if what it leads to does not match.
    #[prost(bool, tag = "3")]
    pub exclusive: bool,
}

impl Name for CelMatcher {
    const NAME: &'static str = "CelMatcher";
    const PACKAGE: &'static str = PACKAGE;
}

impl Name for HttpAttributesCelMatchInput {
    const NAME: &'static str = "HttpAttributesCelMatchInput";
    const PACKAGE: &'static str = PACKAGE;
}

impl Name for IpMatcher {
    const NAME: &'static str = "IPMatcher";
    const PACKAGE: &'static str = PACKAGE;
}
