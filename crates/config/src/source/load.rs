//! From sources to the wire bytes of one message, with everything that is wrong with them.

use super::{Format, Positions, Source};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::transcode::{self, Gaps};
use crate::tree::{Shape, Tree};
use crate::validate;
use nuncio_api::schema::{MessageRef, Schema};

/// What loading lets pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// Unknown fields and enum values are warnings (`--allow-unknown-static-fields`).
    pub allow_unknown: bool,
    /// The rules of the API are not checked.
    pub skip_validation: bool,
}

/// What came of the sources.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The message. Use it only if `diagnostics` has no errors.
    pub wire: Vec<u8>,
    /// Places for what later passes find.
    pub positions: Positions,
    /// Everything found so far.
    pub diagnostics: Diagnostics,
    /// How many unknown fields were found.
    pub unknown_fields: usize,
}

/// Reads `sources` as messages of type `root` (a full name), and merges each into the one before: lists are appended, messages
/// merged, other values replaced. All sources are read and all findings collected, whatever is wrong with some.
pub fn load(sources: &[Source], root: &str, options: &LoadOptions) -> Loaded {
    let mut diagnostics = Diagnostics::new();
    let Some(message) = Schema::message(root) else {
        diagnostics.push(Diagnostic::error("", format!("there is no message type {root}")));
        return Loaded { diagnostics, ..Loaded::default() };
    };
    let mut parts = Parts::default();
    for source in sources {
        parts.add(source, message, *options, &mut diagnostics);
    }
    let Parts { wire, trees, gaps, unreadable } = parts;
    let positions = Positions::new(trees);
    let unknown_fields = gaps.unknown;
    if !options.skip_validation && !unreadable {
        validate::validate(&wire, message, &gaps, &positions, &mut diagnostics);
    }
    Loaded { wire, positions, diagnostics, unknown_fields }
}

/// What the sources read so far came to.
#[derive(Default)]
struct Parts {
    /// Messages laid end to end are those messages merged.
    wire: Vec<u8>,
    trees: Vec<Tree>,
    gaps: Gaps,
    /// A source could not be read, so that what is missing may have been in it.
    unreadable: bool,
}

impl Parts {
    fn add(&mut self, source: &Source, message: MessageRef, options: LoadOptions, diagnostics: &mut Diagnostics) {
        match source.format {
            Format::Binary => match transcode::binary(&source.bytes, message) {
                Ok(unknown) => {
                    self.gaps.unknown += unknown;
                    if unknown > 0 && !options.allow_unknown {
                        let text = format!("has {unknown} unknown fields");
                        diagnostics.push(Diagnostic::error("", text).hint("they are not of this version of the API"));
                    }
                    let options = transcode::Options { allow_unknown: options.allow_unknown };
                    let bytes = transcode::unwrap_typed_structs(&source.bytes, message, options, diagnostics);
                    self.wire.extend_from_slice(&bytes);
                }
                Err(text) => self.refuse(Diagnostic::error("", format!("{}: {text}", source.name)), diagnostics),
            },
            Format::Text | Format::Yaml | Format::Json => {
                let Some(tree) = Tree::parse(source, diagnostics) else {
                    self.unreadable = true;
                    return;
                };
                if !matches!(tree.root().shape(), Shape::Mapping(_)) {
                    let mut text = format!("found {}, expected a mapping", transcode::found(tree.root()));
                    let hint = format!("the source holds the fields of {}", message.full_name());
                    let location = (!tree.is_empty()).then(|| tree.root().location());
                    if location.is_none() {
                        text = format!("{}: {text}", source.name);
                    }
                    self.refuse(Diagnostic::error("", text).at(location).hint(hint), diagnostics);
                    return;
                }
                let options = transcode::Options { allow_unknown: options.allow_unknown };
                let part = transcode::transcode(&tree, message, options, diagnostics);
                self.wire.extend(part.wire);
                self.gaps.unknown += part.gaps.unknown;
                self.gaps.failed.extend(part.gaps.failed);
                self.gaps.incomplete.extend(part.gaps.incomplete);
                self.trees.push(tree);
            }
        }
    }

    fn refuse(&mut self, diagnostic: Diagnostic, diagnostics: &mut Diagnostics) {
        self.unreadable = true;
        diagnostics.push(diagnostic);
    }
}
