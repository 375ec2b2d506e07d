//! A page with the text format in it. Names and texts come from configuration and from peers, so all of them are
//! escaped.

use super::{Item, Query, text};
use crate::store::Store;

const HEAD: &str =
    "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<title>Stats</title>\n</head>\n<body>\n";

/// Appends the page up to the first stat.
pub(super) fn begin(out: &mut Vec<u8>, query: &Query) {
    out.extend_from_slice(HEAD.as_bytes());
    let filter = query.filter.as_ref().map_or("", |filter| filter.as_str());
    let used_only = if query.used_only { " checked" } else { "" };
    let form = format!(
        "<form action='stats' method='get'><input type='hidden' name='format' value='html'>\
         <label>filter <input type='text' name='filter' value='{}'></label> \
         <label><input type='checkbox' name='usedonly'{used_only}> used only</label> \
         <input type='submit' value='show'></form>\n<pre>\n",
        escape(filter)
    );
    out.extend_from_slice(form.as_bytes());
}

/// Appends one stat.
pub(super) fn item(out: &mut Vec<u8>, item: &Item, store: &Store, query: &Query) {
    out.extend_from_slice(escape(&text::line(item, store, query)).as_bytes());
}

/// Appends the end of the page.
pub(super) fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"</pre>\n</body>\n</html>\n");
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            char => safe.push(char),
        }
    }
    safe
}
