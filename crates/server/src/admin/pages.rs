//! Small endpoints that only tell something: home, help, readiness.

use super::endpoint::{Call, Effect, Endpoint, Kind, Parameter};
use super::response::{HTML, Response, TEXT};
use super::routes;
use crate::state::ServerState;

/// `/ready`
pub(super) fn ready(call: &Call<'_>) -> Response {
    let state = call.admin.server.visible_state();
    let status = if state == ServerState::Live { 200 } else { 503 };
    Response::new(status, TEXT, format!("{}\n", state.as_str()))
}

/// `/help`
pub(super) fn help(_: &Call<'_>) -> Response {
    let mut body = String::new();
    routes::list(&mut body);
    Response::text(body)
}

/// `/hot_restart_version`
pub(super) fn hot_restart_version(call: &Call<'_>) -> Response {
    Response::text(crate::hot_restart::version(&call.admin.server.options))
}

/// `/`: a form for each endpoint.
pub(super) fn home(_: &Call<'_>) -> Response {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n<title>Envoy Admin</title>\n\
         <style>\nbody { font-family: sans-serif; }\ntd { vertical-align: top; padding: 2px 8px; }\n\
         form { display: inline; }\n</style>\n</head>\n<body>\n<table>\n\
         <thead><tr><th>Command</th><th>Description</th></tr></thead>\n<tbody>\n",
    );
    for endpoint in routes::ENDPOINTS {
        write_row(&mut page, endpoint);
    }
    page.push_str("</tbody>\n</table>\n</body>\n</html>\n");
    Response::new(200, HTML, page)
}

fn write_row(page: &mut String, endpoint: &Endpoint) {
    // Relative, so that the page works behind a prefix.
    let path = endpoint.path.trim_start_matches('/');
    let (method, label) = match endpoint.effect {
        Effect::Changes => ("post", path.to_owned()),
        Effect::Reads => ("get", format!("<a href='{}'>{path}</a>", if path.is_empty() { "./" } else { path })),
    };
    let label = if path.is_empty() { "<a href='./'>/</a>".to_owned() } else { label };
    page.push_str(&format!("<tr><td>{label}"));
    if endpoint.effect == Effect::Changes || !endpoint.parameters.is_empty() {
        page.push_str(&format!("\n<form action='{path}' method='{method}'>"));
        for parameter in endpoint.parameters {
            write_input(page, parameter);
        }
        page.push_str("<br><button type='submit'>go</button></form>");
    }
    page.push_str(&format!("</td><td>{}</td></tr>\n", escape(endpoint.help)));
}

fn write_input(page: &mut String, parameter: &Parameter) {
    let (name, help) = (parameter.name, escape(parameter.help));
    let input = match parameter.kind {
        Kind::Flag => format!("<input type='checkbox' name='{name}'>"),
        Kind::Text => format!("<input type='text' name='{name}'>"),
        Kind::Choice(choices) => {
            let options: String = choices.iter().map(|choice| format!("<option>{choice}</option>")).collect();
            format!("<select name='{name}'>{options}</select>")
        }
    };
    page.push_str(&format!("<br><label title='{help}'>{name} {input}</label>"));
}

/// Makes a text harmless in HTML.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_a_row() {
        let mut page = String::new();
        routes::ENDPOINTS.iter().for_each(|endpoint| write_row(&mut page, endpoint));
        for endpoint in routes::ENDPOINTS.iter().filter(|endpoint| endpoint.path != "/") {
            assert!(page.contains(&endpoint.path[1..]), "{}", endpoint.path);
        }
        assert!(page.contains("<form action='quitquitquit' method='post'>"), "{page}");
        assert!(page.contains("cluster&#39;s name"), "{page}");
    }
}
