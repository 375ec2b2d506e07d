//! Header mutations: `envoy.config.core.v3.HeaderValueOption` and the lists of names to remove.

/// What to do about a header that exists (`HeaderValueOption.append_action`, or the deprecated `append`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendAction {
    /// Add a value, whether there are some or not. Default; `append: true`.
    #[default]
    AppendIfExistsOrAdd,
    /// Add only if there is none.
    AddIfAbsent,
    /// Replace all values, or add. `append: false`.
    OverwriteIfExistsOrAdd,
    /// Replace all values; nothing if there are none.
    OverwriteIfExists,
}

/// `envoy.config.core.v3.HeaderValueOption`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderValueOptionSpec {
    /// `header.key`: a header name; no pseudo-header, not `host`.
    pub name: String,
    /// `header.value`: a substitution format. At most 16 KiB.
    pub value: String,
    /// `append_action`; lowering has put `append` into it.
    pub append_action: AppendAction,
    /// `keep_empty_value`: set the header even when the format yields nothing. Default false.
    pub keep_empty_value: bool,
}

/// `…_headers_to_add` and `…_headers_to_remove` of one level. Removing comes first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderMutationsSpec {
    /// To add, at most 1000.
    pub add: Vec<HeaderValueOptionSpec>,
    /// Names to remove; no pseudo-header, not `host`.
    pub remove: Vec<String>,
}

impl HeaderMutationsSpec {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}
