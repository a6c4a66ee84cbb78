//! The plots of a run, each with a title that says what one sees and a sentence on how to read it.

mod over_time;
mod spreads;

use super::super::RunReport;
use super::super::plot::Plot;
use super::Escaped;

/// Returns the sections with all plots of a run.
pub(super) fn sections(run: &RunReport) -> String {
    let section = |title: &str, before: &str, figures: &[String]| {
        format!(
            "<section><h2>{title}</h2>{before}<div class=\"figures\">\n{}</div></section>\n",
            figures.concat()
        )
    };
    let over_time = section(
        "Over time",
        &over_time::events(run),
        &over_time::figures(run),
    );
    over_time + &section("By unit, terminal and liar", "", &spreads::figures(run))
}

/// Returns a figure; a plot that has nothing to show is `None`.
fn figure(title: &str, caption: &str, plot: Option<Plot>) -> String {
    let plot = match plot {
        Some(plot) => plot.svg(&format!("{title}. {caption}")),
        None => "<p class=\"more\">Nothing was measured.</p>".to_owned(),
    };
    let (title, caption) = (Escaped(title), Escaped(caption));
    format!(
        "<figure><figcaption><h3>{title}</h3><p class=\"caption\">{caption}</p></figcaption>{plot}</figure>\n"
    )
}
