//! Every file of `examples/` starts, and every command in the comment at its top does what the comment says.
//!
//! A command is a line of the comment that begins with `#   curl`, `#   nc` or `#   printf`; a loop `for i in 1 2 3; do
//! ...; done` around one repeats it. What stands behind `#` on that line is what is expected: a number at its beginning is the
//! status (of each round, where several stand with commas between), and what is in quotes must be in the response, as must
//! the header of `name: value`. Where it says `no response`, there must be none.
//!
//! Commands for `https://` are run by curl itself. Certificates of `/etc/nuncio/tls` are made for the test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nuncio_testkit::authority::Authority;
use nuncio_testkit::client::Client;
use nuncio_testkit::message::text;

use crate::support::*;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory()).expect("there are examples");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

/// Where examples have their certificates.
const TLS: &str = "/etc/nuncio/tls/";

/// The port of the admin endpoint in all examples.
const ADMIN: u16 = 9901;

/// The ports of the file, each replaced by a free one.
struct Ports {
    names: BTreeMap<u16, String>,
}

impl Ports {
    fn of(config: &str) -> Self {
        let mut names = BTreeMap::new();
        for rest in config.split("port_value:").skip(1) {
            let number: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
            if let Ok(port) = number.parse::<u16>() {
                names.insert(port, format!("port_{}", letters(port)));
            }
        }
        Self { names }
    }

    /// The admin endpoint, which does not share its port with what reserves it, gets any port.
    fn replaced(&self, config: &str) -> String {
        let mut config = config.replace(&format!("port_value: {ADMIN} "), "port_value: 0 ");
        for (port, name) in &self.names {
            config = config.replace(&format!("port_value: {port} "), &format!("port_value: ${name} "));
            config = config.replace(&format!("port_value: {port}\n"), &format!("port_value: ${name}\n"));
            config = config.replace(&format!("port_value: {port}}}"), &format!("port_value: ${name}}}"));
        }
        config
    }
}

/// A number as letters, for placeholders hold no digits.
fn letters(number: u16) -> String {
    number.to_string().bytes().map(|digit| char::from(b'a' + (digit - b'0'))).collect()
}

/// One command of a comment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Command {
    line: String,
    rounds: usize,
    words: Vec<String>,
    expected: String,
}

fn commands(config: &str) -> Vec<Command> {
    let comment = config.lines().take_while(|line| line.starts_with('#'));
    let lines = comment.filter_map(|line| line.strip_prefix("#   "));
    lines.filter(|line| !line.starts_with("nuncio ") && !line.starts_with("cargo ")).map(command).collect()
}

fn command(line: &str) -> Command {
    let (mut words, comment) = split(line);
    let mut rounds = 1;
    if words.first().is_some_and(|word| word == "for") {
        let body = words.iter().position(|word| word == "do").expect("a loop has a body");
        // for NAME in ... ; do
        rounds = body - 4;
        words = words[body + 1..].to_vec();
    }
    if let Some(end) = words.iter().position(|word| word == ";" || word == "done") {
        words.truncate(end);
    }
    Command { line: line.to_owned(), rounds, words, expected: comment }
}

/// The words of a shell line, quotes taken away, and the comment at its end.
fn split(line: &str) -> (Vec<String>, String) {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '#' if !quoted && words.last().is_some_and(String::is_empty) => {
                words.retain(|word| !word.is_empty());
                return (words, line[at + 1..].trim().to_owned());
            }
            ';' if !quoted => words.extend([";".to_owned(), String::new()]),
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    (words, String::new())
}

/// What came back: the status, 0 without HTTP, and all of it as text.
fn run(running: &Running, ports: &Ports, command: &Command) -> (u16, String) {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let mapped = |port: &str| -> String {
        if port == ADMIN.to_string() {
            return running.proxy.admin_address().expect("it has started").port().to_string();
        }
        let name = &ports.names[&port.parse::<u16>().unwrap_or_else(|_| panic!("no port in {:?}", command.line))];
        running.setup.port(name).to_string()
    };
    match words[0] {
        "curl" if words.iter().any(|word| word.starts_with("https://")) => real_curl(running, ports, &words[1..]),
        "curl" => curl(&words[1..], mapped),
        "nc" => netcat(&mapped(words[2]), ""),
        "printf" => {
            let port = words.iter().position(|word| *word == "nc").expect("printf is for nc") + 2;
            netcat(&mapped(words[port]), &words[1].replace("\\n", "\n").replace("\\r", "\r"))
        }
        other => panic!("{other} can't be run: {:?}", command.line),
    }
}

fn curl(words: &[&str], mapped: impl Fn(&str) -> String) -> (u16, String) {
    let (mut method, mut url, mut fields, mut body) = ("GET", "", Vec::new(), "");
    let mut words = words.iter().take_while(|word| **word != "|");
    while let Some(word) = words.next() {
        match *word {
            "-H" => fields.push(*words.next().expect("-H has a header")),
            "-X" => method = words.next().expect("-X has a method"),
            "-d" => body = words.next().expect("-d has a body"),
            flag if flag.starts_with('-') => {}
            other => url = other,
        }
    }
    if !body.is_empty() && method == "GET" {
        method = "POST";
    }
    let rest = url.strip_prefix("http://").expect("an URL");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = mapped(authority.rsplit(':').next().expect("a port"));
    let mut client = Client::connect(format!("127.0.0.1:{port}").parse().unwrap()).unwrap();
    let has_host = fields.iter().any(|field| field.to_ascii_lowercase().starts_with("host:"));
    let mut request = format!("{method} {} HTTP/1.1\r\n", if path.is_empty() { "/" } else { path });
    if !has_host {
        request += &format!("host: {authority}\r\n");
    }
    for field in fields {
        request += &format!("{field}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        request += &format!("content-length: {}\r\n", body.len());
    }
    let response = ask(&mut client, &format!("{request}\r\n{body}"));
    let head = response.head.clone().unwrap_or_default();
    let fields: String = head.fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    (response.status(), format!("{}\n{fields}\n{}", head.start, text(&response.body.data)))
}

/// Runs the program itself: the status and all that it printed; 0 without a response.
fn real_curl(running: &Running, ports: &Ports, words: &[&str]) -> (u16, String) {
    let directory = format!("{}/", running.setup.dir.path().display());
    let words = words.iter().map(|word| {
        let mut word = word.replace(TLS, &directory);
        for (port, name) in ports.names.iter().filter(|(port, _)| **port != ADMIN) {
            word = word.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", running.setup.port(name)));
        }
        word
    });
    let output = std::process::Command::new("curl").args(["-s", "-i", "--max-time", "10"]).args(words).output();
    let text = String::from_utf8_lossy(&output.expect("curl is installed").stdout).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

fn netcat(port: &str, bytes: &str) -> (u16, String) {
    let mut client = Client::connect(format!("127.0.0.1:{port}").parse().unwrap()).unwrap();
    // Who answers without listening may have closed.
    let _ = client.send(bytes.as_bytes());
    let _ = client.finish_sending();
    (0, text(&client.rest().data))
}

/// The statuses that a comment begins with.
fn statuses(expected: &str) -> Vec<u16> {
    let numbers = expected.split(',').map(|word| {
        let word = word.trim();
        let digits = word.chars().take_while(char::is_ascii_digit).count();
        if digits == 3 { word[..3].parse().ok() } else { None }
    });
    numbers.map_while(|number| number).collect()
}

fn quoted(expected: &str) -> Vec<&str> {
    expected.split('"').skip(1).step_by(2).collect()
}

fn header_line(expected: &str) -> Option<&str> {
    let (name, _) = expected.split_once(": ")?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    is_name.then_some(expected)
}

fn check(path: &Path) {
    let config = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let commands = commands(&config);
    assert!(!commands.is_empty(), "{name}: no command in the comment at its top");
    let ports = Ports::of(&config);
    let mut text = ports.replaced(&config);
    if !config.contains("\nadmin:") {
        text = format!("admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\n{text}");
    }
    let setup = Setup::new(&text.replace(TLS, "$dir/"));
    if config.contains(TLS) {
        let authority = Authority::new("examples");
        for (stem, names) in [
            ("server", &["DNS:shop.test", "DNS:*.shop.test", "URI:spiffe://shop.test/server"][..]),
            ("client", &["URI:spiffe://shop.test/client"]),
            ("blog", &["DNS:blog.test"]),
        ] {
            authority.write(setup.dir.path(), stem, names);
        }
    }
    let running = setup.start();
    for command in &commands {
        let wanted = statuses(&command.expected);
        for round in 0..command.rounds {
            let is_right = |(status, all): &(u16, String)| {
                if command.expected.starts_with("no response") {
                    return *status == 0;
                }
                let status_is_right = match wanted.get(round).or(wanted.last()) {
                    Some(wanted) => status == wanted,
                    None => *status == 0 || *status == 200,
                };
                status_is_right
                    && quoted(&command.expected).iter().all(|piece| all.contains(piece))
                    && header_line(&command.expected).is_none_or(|line| all.contains(line))
            };
            let mut got = run(&running, &ports, command);
            // What an example says may hold only once a health check or a statistics flush is over.
            if !is_right(&got) && command.rounds == 1 {
                running.proxy.await_that(|_| {
                    got = run(&running, &ports, command);
                    is_right(&got)
                });
            }
            assert!(is_right(&got), "{name}: {}\nround {}: {}\n{}", command.line, round + 1, got.0, got.1);
        }
    }
}

#[test]
fn examples_do_what_their_comments_say() {
    let examples = examples();
    assert!(examples.len() >= 2, "{examples:?}");
    for path in &examples {
        check(path);
    }
}

#[test]
fn commands_are_read() {
    let check = |line: &str, rounds: usize, words: &[&str], expected: &str| {
        let got = command(line);
        assert_eq!(
            (got.rounds, got.words, got.expected.as_str()),
            (rounds, words.iter().map(|w| (*w).to_owned()).collect(), expected)
        );
    };
    check("curl -i http://a:1/   # 200 \"x\"", 1, &["curl", "-i", "http://a:1/"], "200 \"x\"");
    check("curl -H 'host: b' http://a:1/#x", 1, &["curl", "-H", "host: b", "http://a:1/#x"], "");
    check(
        "for i in 1 2 3; do curl -s http://a:1/ | head -1; done   # 200, 200, 429",
        3,
        &["curl", "-s", "http://a:1/", "|", "head", "-1"],
        "200, 200, 429",
    );
    assert_eq!(statuses("200, 200, 429"), [200, 200, 429]);
    assert_eq!(statuses("301 to /cart"), [301]);
    assert_eq!(statuses("v1, and sometimes v2: 80 to 20"), Vec::<u16>::new());
    assert_eq!(header_line("x-lua: yes"), Some("x-lua: yes"));
    assert_eq!(header_line("404: no virtual host"), None);
}
