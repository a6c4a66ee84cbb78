//! The buttons and the form with the preferences.

use maud::{Markup, html};

use super::super::form::{FIELDS, Field, Kind};
use super::Frame;

/// The buttons: what is asked for, what stands on it.
const BUTTONS: [(&str, &str); 4] = [
    ("pause", "Pause"),
    ("resume", "Resume"),
    ("snooze", "Pause for 1 hour"),
    ("finish", "Finish, then pause"),
];
const PRESETS: [(&str, &str); 3] = [
    (
        "light",
        "Light: half of the processors, only when idle for long",
    ),
    ("medium", "Medium: all when idle, a quarter while in use"),
    ("full", "Full: all, always"),
];

pub(super) fn buttons(form_token: &str) -> Markup {
    html! {
        form.buttons method="post" action="/act" aria-label="Pause and resume" {
            input type="hidden" name="form" value=(form_token);
            @for (name, label) in BUTTONS { button name="do" value=(name) { (label) } }
        }
    }
}

pub(super) fn preferences(frame: &Frame<'_>) -> Markup {
    let preset = frame.view.preferences.get("preset").map(String::as_str);
    html! {
        section.card.wide aria-labelledby="preferences-head" {
            h2 #preferences-head { "Preferences" }
            form method="post" action="/act" aria-labelledby="presets-head" {
                input type="hidden" name="form" value=(frame.form_token);
                h3 #presets-head { "Take these from a preset" }
                div.buttons {
                    @for (name, label) in PRESETS {
                        button name="do" value=(name) aria-pressed=((preset == Some(name)).to_string()) { (label) }
                    }
                }
            }
            h3 { "Or choose" }
            form method="post" action="/preferences" {
                input type="hidden" name="form" value=(frame.form_token);
                div.fields { @for field in &FIELDS { div { (asked(field, frame)) } } }
                div.buttons { button.main { "Save" } }
            }
            p.quiet { "There are more in " code { "preferences.toml" } ": " code { "tally preferences show" } " shows them." }
        }
    }
}

fn asked(field: &Field, frame: &Frame<'_>) -> Markup {
    let value = frame.values.get(field.key).map_or("", String::as_str);
    let fault = frame.faults.get(field.key).map(String::as_str);
    // The first that will not do gets the focus.
    let focus = frame
        .faults
        .keys()
        .find(|key| FIELDS.iter().any(|field| field.key == *key));
    let focus = focus.is_some_and(|key| key == field.key);
    match field.kind {
        Kind::Choice(choices) => html! {
            fieldset #(id(field)) aria-describedby=[describes(field, fault)] {
                legend { (field.label) }
                @for (name, label) in choices {
                    label.choice {
                        input type="radio" name=(field.key) value=(name) checked[*name == value];
                        (label)
                    }
                }
                (about(field, fault))
            }
        },
        Kind::Switch => html! {
            label.choice {
                input #(id(field)) type="checkbox" name=(field.key) value="true" checked[value == "true"] aria-describedby=[describes(field, fault)];
                (field.label)
            }
            (about(field, fault))
        },
        Kind::Number { unit, .. } => html! {
            label for=(id(field)) { (field.label) }
            input.number #(id(field)) type="text" inputmode="numeric" autocomplete="off" name=(field.key) value=(value) maxlength="20"
                aria-invalid=[fault.map(|_| "true")] aria-describedby=[describes(field, fault)] autofocus[focus];
            (unit)
            (about(field, fault))
        },
        Kind::Hours => html! {
            label for=(id(field)) { (field.label) }
            input #(id(field)) type="text" autocomplete="off" name=(field.key) value=(value) maxlength="1000"
                aria-invalid=[fault.map(|_| "true")] aria-describedby=[describes(field, fault)] autofocus[focus];
            (about(field, fault))
        },
    }
}

/// What stands below a field, and is read with it.
fn about(field: &Field, fault: Option<&str>) -> Markup {
    html! {
        @if describes(field, fault).is_some() {
            div #(format!("about-{}", id(field))) {
                @if let Some(fault) = fault { p.fault { (fault) } }
                @if !field.help.is_empty() { p.quiet { (field.help) } }
            }
        }
    }
}

fn describes(field: &Field, fault: Option<&str>) -> Option<String> {
    let says = fault.is_some() || !field.help.is_empty();
    says.then(|| format!("about-{}", id(field)))
}

/// Returns the id of a field's element.
pub(super) fn id(field: &Field) -> String {
    field.key.replace(['.', '_'], "-")
}
