//! `access-log-operators.md`: the commands of log formats, header values and local replies.

use std::fmt::Write;

pub(super) fn page() -> Result<String, String> {
    let mut page = String::from(
        "# Access-log operators\n\nFor `log_format`, for header values (`request_headers_to_add` and the like) and for \
         local replies. `(…)` must be given, `[(…)]` may be; `[:n]` cuts the value to n bytes. A value that is not there \
         is `-` in text and `null` in JSON. An operator that does not exist is an error with its column.\n\n\
         Operators about TLS are always without a value as long as TLS is not built.\n\n",
    );
    let mut operators: Vec<_> = nuncio_stream_info::operators().collect();
    operators.sort_unstable_by_key(|operator| operator.name);
    for operator in operators {
        let parameters = match (operator.takes_parameters, operator.requires_parameters) {
            (_, true) => "(…)",
            (true, false) => "[(…)]",
            (false, false) => "",
        };
        let length = if operator.takes_length { "[:n]" } else { "" };
        let _ = writeln!(page, "- `%{}{parameters}{length}%`", operator.name);
    }
    Ok(page)
}
