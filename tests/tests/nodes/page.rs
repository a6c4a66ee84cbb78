//! The owner's page of a real terminal, as a browser asks for it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tally_protocol::manners::{Reason, When};
use tally_tests::PATIENCE;
use tally_tests::node::Node;

use crate::net;

/// A browser that was opened with the address of `tally open`.
struct Browser {
    host: String,
    cookie: String,
}

/// What it gets: the status, the head and the body.
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Browser {
    fn open(url: &str) -> Self {
        let (host, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let mut browser = Self {
            host: host.to_owned(),
            cookie: String::new(),
        };
        let opened = browser.ask(&format!("GET /{path}"), "");
        assert_eq!(opened.status, 303, "{}", opened.head);
        let (_, cookie) = opened.head.split_once("set-cookie: ").unwrap();
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        browser
    }

    fn page(&self) -> String {
        let shown = self.ask("GET /", "");
        assert_eq!(shown.status, 200, "{}", shown.body);
        shown.body
    }

    /// Sends a form of the page.
    fn press(&self, route: &str, fields: &str) -> Got {
        let page = self.page();
        let (_, token) = page.split_once("name=\"form\" value=\"").unwrap();
        let token = token.split('"').next().unwrap();
        self.ask(&format!("POST {route}"), &format!("form={token}&{fields}"))
    }

    fn ask(&self, request: &str, form: &str) -> Got {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let Self { host, cookie } = self;
        let length = form.len();
        let head = format!(
            "{request} HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncookie: {cookie}\r\nconnection: close\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Got {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }
}

fn reasons(node: &mut Node) -> Vec<Reason> {
    let owner = node.status().owner.unwrap();
    owner.because.iter().map(|because| because.reason).collect()
}

#[test]
fn an_owner_pauses_and_sets_preferences_on_the_page() {
    let mut net = net();
    let bootstrap = net.start_bootstrap();
    let mut node = net.start_terminal("terminal");
    let _ = node.status();
    let opening = net.say("terminal", &["open", "--print"]);
    let browser = Browser::open(opening["url"].as_str().unwrap());
    assert!(browser.page().contains("Preferences"));
    let paused = browser.press("/act", "do=pause");
    assert!(
        paused.head.contains("location: /?note=paused"),
        "{}",
        paused.body
    );
    assert_eq!(reasons(&mut node).first(), Some(&Reason::Paused));
    assert!(browser.page().contains("Paused: paused by you."));
    let status = net.say("terminal", &["status"]);
    assert_eq!(
        status["owner"]["because"][0]["reason"],
        Value::from("paused")
    );
    browser.press("/act", "do=resume");
    assert!(!reasons(&mut node).contains(&Reason::Paused));
    let wishes = "run=never&idle_minutes=7&hours=*";
    let refused = browser.press(
        "/preferences",
        &format!("{wishes}&in_use.cpu=80&idle.cpu=50"),
    );
    assert_eq!(refused.status, 422, "{}", refused.head);
    assert!(refused.body.contains("Nothing was saved"));
    assert!(
        refused.body.contains("in_use.cpu is 80 %"),
        "{}",
        refused.body
    );
    assert_ne!(node.status().owner.unwrap().run, When::Never);
    let saved = browser.press(
        "/preferences",
        &format!("{wishes}&in_use.cpu=20&idle.cpu=50"),
    );
    assert!(
        saved.head.contains("location: /?note=saved"),
        "{}",
        saved.body
    );
    assert_eq!(node.status().owner.unwrap().run, When::Never);
    assert_eq!(reasons(&mut node).first(), Some(&Reason::Never));
    let stranger = Browser {
        host: browser.host.clone(),
        cookie: String::new(),
    };
    assert_eq!(stranger.ask("GET /", "").status, 403);
    assert_eq!(stranger.ask("POST /act", "do=resume").status, 403);
    let no_page = net
        .node("quiet", "terminal")
        .config("[terminal]\npage = \"off\"\n");
    let mut quiet = no_page.start();
    let _ = quiet.status();
    let refused = net.said("quiet", &["open", "--print"]).failure();
    assert!(refused.hint.contains("page"), "{refused:?}");
    drop(bootstrap);
}
