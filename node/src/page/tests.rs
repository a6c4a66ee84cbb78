//! The page over a desk that stands fixed: what it shows, whom it lets in, and what it asks for.

pub(crate) mod sample;

use axum::body::Body;
use axum::http::request::Builder;
use http_body_util::BodyExt;
use tally_protocol::manners::Preset;
use tower::ServiceExt;

use super::*;
use sample::{SampleDesk, in_use, view};

const HOST: &str = "127.0.0.1:4999";
const HOSTILE: &str = "</p><script>alert('x')</script>\" onload=\"x";

/// A page and the browser of its owner.
struct Browser {
    router: Router,
    guard: Guard,
    desk: Arc<SampleDesk>,
    cookie: String,
}

/// An answer.
struct Said {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Browser {
    fn open() -> Self {
        Self::at(SampleDesk::new(view("")))
    }

    fn at(desk: SampleDesk) -> Self {
        let guard = Guard::new(HOST.parse().unwrap());
        let desk = Arc::new(desk);
        let router = router(guard.clone(), Arc::clone(&desk) as Arc<dyn Desk>);
        let cookie = guard.begin().to_str().unwrap().to_owned();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self {
            router,
            guard,
            desk,
            cookie,
        }
    }

    fn form_token(&self) -> String {
        let mut headers = axum::http::HeaderMap::new();
        headers.insert(header::COOKIE, self.cookie.parse().unwrap());
        let session = self.guard.session(&headers).unwrap();
        self.guard.form_token(session)
    }

    async fn send(&self, request: Builder, body: &str) -> Said {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Said {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Said {
        let request = Request::get(path).header("host", HOST);
        self.send(request.header("cookie", &self.cookie), "").await
    }

    /// Sends a form as a browser does.
    async fn post(&self, path: &str, fields: &str) -> Said {
        let request = self.form(path).header("cookie", &self.cookie);
        let request = request.header("origin", format!("http://{HOST}"));
        let request = request.header("sec-fetch-site", "same-origin");
        let body = format!("form={}&{fields}", self.form_token());
        self.send(request, &body).await
    }

    fn form(&self, path: &str) -> Builder {
        let request = Request::post(path).header("host", HOST);
        request.header("content-type", "application/x-www-form-urlencoded")
    }

    fn wanted(&self) -> Vec<Action> {
        self.desk.wanted.borrow().clone()
    }
}

#[tokio::test]
async fn the_token_is_exchanged_for_a_cookie_and_leaves_the_address() {
    let browser = Browser::open();
    let url = browser.guard.url();
    let path = url.strip_prefix("http://127.0.0.1:4999").unwrap();
    let opened = browser
        .send(Request::get(path).header("host", HOST), "")
        .await;
    assert_eq!(
        (opened.status, &opened.headers["location"]),
        (303, &HeaderValue::from_static("/"))
    );
    let cookie = opened.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("tally-4999="), "{cookie}");
    for says in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(says), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    let request = Request::get("/").header("host", HOST);
    let others = format!("theme=dark; {cookie}; tally-4998=00");
    let shown = browser.send(request.header("cookie", others), "").await;
    assert_eq!(shown.status, 200);
    let token = url.rsplit('=').next().unwrap();
    assert_eq!(token.len(), 64);
    assert!(!shown.text.contains(token));
    for (name, value) in &*HEADERS {
        assert_eq!(shown.headers[name], value);
    }
    let policy = shown.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'; style-src 'sha256-")
            && policy.contains("frame-ancestors 'none'")
    );
    assert!(!policy.contains("unsafe"));
    let again = Request::get(path).header("host", HOST);
    assert_eq!(
        browser.send(again, "").await.status,
        403,
        "a token opens once"
    );
}

#[tokio::test]
async fn whoever_lacks_the_cookie_is_told_of_tally_open_and_nothing_else() {
    let browser = Browser::open();
    let wrong = browser.guard.url().replace("token=", "token=0");
    let wrong = wrong
        .strip_prefix("http://127.0.0.1:4999")
        .unwrap()
        .to_owned();
    let forged = format!("{}0", &browser.cookie[..browser.cookie.len() - 1]);
    let other = Browser::open().cookie;
    for cookie in ["", "tally-4999=", "tally-4999=ü", &forged, &other] {
        for path in [
            "/",
            "/live",
            "/?note=saved",
            "/?token=",
            &wrong,
            "/other",
            "/live?token=1",
        ] {
            let request = Request::get(path).header("host", HOST);
            let request = request.header(
                "cookie",
                HeaderValue::from_bytes(cookie.as_bytes()).unwrap(),
            );
            let said = browser.send(request, "").await;
            assert_eq!(said.status, 403, "{path} {cookie}");
            assert!(
                said.text.contains("<code>tally open</code>"),
                "{}",
                said.text
            );
            assert!(!said.headers.contains_key("set-cookie"));
        }
        let request = browser.form("/act").header(
            "cookie",
            HeaderValue::from_bytes(cookie.as_bytes()).unwrap(),
        );
        let body = format!("form={}&do=pause", browser.form_token());
        assert_eq!(browser.send(request, &body).await.status, 403);
    }
    assert_eq!(browser.wanted(), []);
}

#[tokio::test]
async fn names_that_point_here_and_pages_of_others_are_refused() {
    let browser = Browser::open();
    for host in [
        "evil.example:4999",
        "localhost:4999",
        "127.0.0.1",
        "127.0.0.1:4998",
        "",
    ] {
        let request = Request::get("/").header("host", host);
        let said = browser
            .send(request.header("cookie", &browser.cookie), "")
            .await;
        assert_eq!(said.status, 421, "{host}");
        let url = browser.guard.url();
        let path = url.strip_prefix("http://127.0.0.1:4999").unwrap();
        let said = browser
            .send(Request::get(path).header("host", host), "")
            .await;
        assert_eq!(said.status, 421, "{host}");
    }
    let none = Request::get("/").header("cookie", &browser.cookie);
    assert_eq!(browser.send(none, "").await.status, 421);
    let twice = Request::get("/")
        .header("host", HOST)
        .header("host", "evil.example");
    assert_eq!(
        browser
            .send(twice.header("cookie", &browser.cookie), "")
            .await
            .status,
        421
    );
    let body = format!("form={}&do=pause", browser.form_token());
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:4998"),
        ("origin", "https://127.0.0.1:4999"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
    ] {
        let request = browser.form("/act").header("cookie", &browser.cookie);
        let said = browser.send(request.header(name, value), &body).await;
        assert_eq!(said.status, 403, "{name}: {value}");
    }
    assert_eq!(browser.wanted(), []);
    let request = browser.form("/act").header("cookie", &browser.cookie);
    assert_eq!(
        browser.send(request, &body).await.status,
        303,
        "browsers that do not say"
    );
}

#[tokio::test]
async fn a_form_is_of_this_page_and_this_session_and_short() {
    let browser = Browser::open();
    let other = browser.guard.begin().to_str().unwrap().to_owned();
    let mut second = Browser::at(SampleDesk::new(view("")));
    (second.guard, second.cookie) = (
        browser.guard.clone(),
        other.split(';').next().unwrap().to_owned(),
    );
    let session = second.form_token();
    for form in ["", "form=&", "form=00&", &format!("form={session}&")] {
        let request = browser.form("/act").header("cookie", &browser.cookie);
        let said = browser.send(request, &format!("{form}do=pause")).await;
        assert_eq!(said.status, 403, "{form}");
    }
    let long = format!("do=pause&x={}", "x".repeat(BODY_BYTES_MAX));
    assert_eq!(browser.post("/act", &long).await.status, 413);
    assert_eq!(browser.post("/preferences", &long).await.status, 413);
    let request = Request::post("/act")
        .header("host", HOST)
        .header("cookie", &browser.cookie);
    let json = browser
        .send(request.header("content-type", "application/json"), "{}")
        .await;
    assert_eq!(json.status, 415);
    assert_eq!(browser.post("/act", "do=explode").await.status, 400);
    assert_eq!(browser.get("/act").await.status, 405);
    assert_eq!(browser.get("/other").await.status, 404);
    assert_eq!(browser.wanted(), []);
}

#[tokio::test]
async fn buttons_do_what_stands_on_them_and_then_show_it() {
    let browser = Browser::open();
    let buttons = [
        (
            "pause",
            Action::Pause,
            "Nothing is computed until you resume",
        ),
        ("resume", Action::Resume, "The preferences decide again"),
        ("snooze", Action::Snooze(60), "Paused for an hour"),
        ("finish", Action::Finish, "then nothing more is taken"),
        ("light", Action::Preset(Preset::Light), "Saved"),
    ];
    for (name, action, says) in buttons {
        let done = browser.post("/act", &format!("do={name}")).await;
        assert_eq!(done.status, 303);
        assert_eq!(browser.wanted().last(), Some(&action));
        let shown = browser
            .get(done.headers["location"].to_str().unwrap())
            .await;
        assert!(shown.text.contains(says), "{name}: {}", shown.text);
        assert!(shown.text.contains(&format!("value=\"{name}\"")));
    }
    let unknown = browser.get("/?note=%3Cscript%3E").await;
    assert!(!unknown.text.contains("role=\"status\">Saved") && !unknown.text.contains("%3C"));
    let mut desk = SampleDesk::new(view(""));
    desk.answer = Err(DeskError::Failed("ask the <terminal>".to_owned()));
    let failed = Browser::at(desk).post("/act", "do=pause").await;
    assert_eq!(failed.status, 503);
    assert!(
        failed
            .text
            .contains("failed to do this: ask the &lt;terminal&gt;"),
        "{}",
        failed.text
    );
}

#[tokio::test]
async fn preferences_are_saved_whole_or_shown_again_with_the_reason() {
    let good = "run=idle&idle_minutes=3&in_use.cpu=25&idle.cpu=80&hours=*&on_battery=true";
    let browser = Browser::open();
    let saved = browser.post("/preferences", good).await;
    assert_eq!(
        (saved.status, saved.headers["location"].to_str().unwrap()),
        (303, "/?note=saved")
    );
    let pairs = [
        ("run", "idle"),
        ("idle.cpu", "80"),
        ("hours", "*"),
        ("on_battery", "true"),
    ];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(browser.wanted(), [Action::Set(pairs.to_vec())]);
    let bad = good
        .replace("in_use.cpu=25", "in_use.cpu=%22%3E%3Cb%3E")
        .replace("hours=*", "hours=mon+9-17");
    let refused = browser.post("/preferences", &bad).await;
    assert_eq!(refused.status, 422);
    let text = &refused.text;
    assert!(text.contains("value=\"&quot;&gt;&lt;b&gt;\""), "{text}");
    assert!(
        text.contains("value=\"mon 9-17\"") && text.contains("aria-invalid=\"true\""),
        "{text}"
    );
    assert!(text.contains("Nothing was saved") && text.contains("href=\"#in-use-cpu\""));
    assert!(
        text.contains("is not a whole number")
            && text.contains("name=\"run\" value=\"idle\" checked")
    );
    assert_eq!(browser.wanted().len(), 1, "nothing was saved");
    let mut desk = SampleDesk::new(view(""));
    let fault = (
        "idle.cpu".to_owned(),
        "in_use.cpu is 25 %, more than idle.cpu".to_owned(),
    );
    desk.answer = Err(DeskError::Values(vec![fault]));
    let refused = Browser::at(desk)
        .post("/preferences", &good.replace("idle.cpu=80", "idle.cpu=10"))
        .await;
    assert_eq!(refused.status, 422);
    assert!(refused.text.contains("more than idle.cpu") && refused.text.contains("value=\"10\""));
}

#[tokio::test]
async fn whatever_others_write_is_shown_as_text() {
    let mut hostile = view(HOSTILE);
    hostile.because = in_use(HOSTILE);
    for value in hostile.preferences.values_mut() {
        value.push_str(HOSTILE);
    }
    let browser = Browser::at(SampleDesk::new(hostile));
    for path in ["/", "/live"] {
        let text = browser.get(path).await.text;
        assert!(text.contains("&lt;script&gt;alert"), "{text}");
        assert!(
            !text.contains("<script>alert") && !text.contains("\" onload"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn one_sentence_says_how_it_is() {
    let browser = Browser::open();
    let sentence = |change: fn(&mut PageView)| {
        browser.desk.view.send_modify(change);
        async {
            let text = browser.get("/live").await.text;
            let (_, rest) = text.split_once("</span>").unwrap();
            rest.split_once("</p>").unwrap().0.to_owned()
        }
    };
    assert_eq!(sentence(|_| {}).await, "Computing.");
    assert_eq!(
        sentence(|view| view.because = in_use("")).await,
        "Paused: somebody uses the computer."
    );
    let text = browser.get("/").await.text;
    for says in [
        ">14:21</time>, goes on at <time datetime=\"2026-11-22T13:34:10.000Z\">14:34</time> if nothing changes",
        "Also:",
        "83 % are left",
        "units 120 to 127",
        "suspended",
        "0.0019",
        "In escrow",
        "1204118.25",
        "<strong>214</strong>: results wait until others agree and a receipt comes, the oldest since",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert_eq!(
        sentence(|view| view.running.clear()).await,
        "Paused: somebody uses the computer."
    );
    assert_eq!(
        sentence(|view| view.because.clear()).await,
        "Waiting for work."
    );
}

/// Each part that changes by itself stands on the page too, and holds nothing that can be pressed.
#[tokio::test]
async fn live_parts_have_their_place_on_the_page() {
    let browser = Browser::open();
    let (page, live) = (browser.get("/").await.text, browser.get("/live").await.text);
    let ids = |text: &str| {
        let parts = text.split("<div ").chain(text.split("<table ")).skip(1);
        let live = parts.filter(|part| {
            part.split('>')
                .next()
                .is_some_and(|tag| tag.contains("data-live"))
        });
        let id = |part: &str| part.split('"').nth(1).unwrap().to_owned();
        live.map(id).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&page), ids(&live));
    assert_eq!(ids(&live).len(), 8);
    for pressed in ["<a ", "<button", "<input", "<summary"] {
        assert!(!live.contains(pressed), "{pressed}");
    }
}

#[test]
fn it_listens_on_loopback_only() {
    let loopback = ["127.0.0.1:0", "127.9.9.9:80", "[::1]:4700"];
    for text in loopback {
        assert!(matches!(text.parse(), Ok(PageAddress::At(_))), "{text}");
    }
    assert_eq!("off".parse(), Ok(PageAddress::Off));
    for text in [
        "0.0.0.0:0",
        "[::]:0",
        "192.168.0.2:80",
        "localhost:0",
        "127.0.0.1",
        "on",
        "",
    ] {
        let error = text.parse::<PageAddress>().unwrap_err();
        assert!(error.contains("\"127.0.0.1:0\""), "{error}");
    }
}
