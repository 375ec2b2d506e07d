//! `/clusters`

use super::Admin;
use super::endpoint::Call;
use super::response::{JSON, PIECE, Pieces, Response, TEXT};
use regex::RegexBuilder;
use std::rc::Rc;
use std::sync::Arc;

/// Longest filter that is compiled, in bytes.
const MAX_FILTER: usize = 4096;
/// Most memory that a compiled filter may take, in bytes.
const MAX_FILTER_SIZE: usize = 1 << 20;

/// `/clusters`
pub(super) fn clusters(call: &Call<'_>) -> Response {
    let mut names = call.admin.server.clusters.names();
    match call
        .parameters
        .text("filter")
        .map(|filter| (filter, RegexBuilder::new(filter).size_limit(MAX_FILTER_SIZE).build()))
    {
        None => {}
        Some((text, Ok(filter))) if text.len() <= MAX_FILTER => names.retain(|name| filter.is_match(name)),
        Some(_) => return Response::bad_request("Invalid re2 regex"),
    }
    names.reverse();
    let list = |json| ClusterList { admin: Rc::clone(call.admin), names, json, begun: false, listed: false };
    match call.parameters.get("format") {
        Some("json") => Response::pieces(JSON, list(true)),
        _ => Response::pieces(TEXT, list(false)),
    }
}

/// Clusters on their way out.
struct ClusterList {
    admin: Rc<Admin>,
    /// The next one last.
    names: Vec<Arc<str>>,
    json: bool,
    begun: bool,
    /// Whether one was written.
    listed: bool,
}

impl Pieces for ClusterList {
    fn fill(&mut self, out: &mut Vec<u8>) -> bool {
        if self.json && !std::mem::replace(&mut self.begun, true) {
            out.push(b'{');
        }
        while out.len() < PIECE {
            let Some(name) = self.names.pop() else {
                if self.json {
                    out.extend_from_slice(if self.listed { b"\n ]\n}\n" } else { b"}\n" });
                }
                return false;
            };
            if self.json {
                self.json_element(out, &name);
            } else {
                self.admin.server.clusters.write_cluster_text(out, &name);
            }
        }
        true
    }
}

impl ClusterList {
    fn json_element(&mut self, out: &mut Vec<u8>, name: &str) {
        let before = out.len();
        out.extend_from_slice(if self.listed { b"," } else { b"\n \"cluster_statuses\": [" });
        if self.admin.server.clusters.write_cluster_json(out, name) {
            self.listed = true;
        } else {
            // It was removed meanwhile.
            out.truncate(before);
        }
    }
}
