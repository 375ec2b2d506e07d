//! YAML text to a tree: the parser's events, and what yaml-cpp and Envoy make of documents, tags and anchors.

use super::builder::{Builder, Fatal, Place};
use super::{MAX_DEPTH, NodeKind, Tree};
use crate::diagnostics::{Diagnostics, quoted};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;
use std::sync::Arc;

/// The tree of the one document in `text`.
pub(super) fn parse(source: &Arc<str>, text: &str, diagnostics: &mut Diagnostics) -> Result<Tree, Fatal> {
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::new(source, text.len(), diagnostics);
    let mut documents = 0;
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Err(error)) => return Err(syntax(&builder, text, &error)),
            Some(Ok((Event::DocumentStart(_), _))) => documents += 1,
            Some(Ok((event, span))) if documents < 2 => node(&mut builder, event, span)?,
            Some(Ok((event, span))) => refuse_content(&builder, &event, span)?,
        }
    }
    let tree = builder.build();
    Ok(tree)
}

/// A second document may only be empty: Envoy reads the first and forgets the others, which nobody means.
fn refuse_content(builder: &Builder<'_>, event: &Event<'_>, span: Span) -> Result<(), Fatal> {
    match event {
        Event::DocumentEnd | Event::Nothing => Ok(()),
        Event::Scalar(text, ..) if text.is_empty() => Ok(()),
        _ => {
            let mut error = builder.error(place(span), "found a second document, expected one");
            error.hint = Some("remove the `---` line, or keep the documents in files of their own".to_owned());
            Err(error)
        }
    }
}

fn place(span: Span) -> Place {
    Place { line: span.start.line() as u32, column: span.start.col() as u32 + 1 }
}

fn node(builder: &mut Builder<'_>, event: Event<'_>, span: Span) -> Result<(), Fatal> {
    let place = place(span);
    match event {
        Event::Scalar(text, style, anchor, tag) => scalar(builder, (&text, style), tag, place, anchor),
        Event::SequenceStart(anchor, _) => builder.begin(NodeKind::Sequence, place, anchor),
        Event::MappingStart(anchor, _) => builder.begin(NodeKind::Mapping, place, anchor),
        Event::SequenceEnd | Event::MappingEnd => builder.end(),
        Event::Alias(anchor) => builder.alias(anchor, place),
        Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => Ok(()),
    }
}

fn scalar(
    builder: &mut Builder<'_>,
    (text, style): (&str, ScalarStyle),
    tag: Option<Cow<'_, Tag>>,
    place: Place,
    anchor: usize,
) -> Result<(), Fatal> {
    let is_tag = |handle: &str, suffix: &str| tag.as_ref().is_some_and(|it| it.handle == handle && it.suffix == suffix);
    if builder.expects_key() {
        if is_tag("!", "ignore") {
            return builder.ignored_key(text, place, anchor);
        }
        return builder.scalar(NodeKind::Quoted, text, place, anchor);
    }
    // yaml-cpp gives a quoted scalar the tag `!`, unless it has another, and Envoy takes only `!` for a string.
    let is_string = match &tag {
        None => style != ScalarStyle::Plain,
        Some(_) => is_tag("", "!") || is_tag("!", ""),
    };
    // A tag keeps an empty scalar from being null.
    let is_string = is_string || (tag.is_some() && super::yaml_scalar::resolve(text) == super::Scalar::Null);
    builder.scalar(if is_string { NodeKind::Quoted } else { NodeKind::Plain }, text, place, anchor)
}

fn syntax(builder: &Builder<'_>, text: &str, error: &ScanError) -> Fatal {
    let marker = error.marker();
    let place = Place { line: (marker.line() as u32).max(1), column: marker.col() as u32 + 1 };
    let line = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    if error.info().contains("recursion limit") {
        return builder.error(place, format!("nested deeper than {MAX_DEPTH} levels"));
    }
    let mut fatal = builder.error(place, format!("YAML: {}", error.info()));
    let indentation = line.len() - line.trim_start().len();
    if line[..indentation].contains('\t') {
        fatal.hint = Some("the line is indented with a tab; YAML allows only spaces there".to_owned());
    } else if marker.line() > text.lines().count() || line.is_empty() {
        fatal.hint = Some("the text ends in the middle of something: is it complete?".to_owned());
    } else {
        fatal.hint = Some(format!("the line reads {}", quoted(line.trim())));
    }
    fatal
}
