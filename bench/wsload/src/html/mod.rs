//! The report as a page: one file that needs no network, for people who decide whether to go live.
//!
//! One report is shown in full; several are laid over each other, by name. The page holds the raw
//! reports too, so that it can be sent around alone. All text from outside is escaped; numbers
//! come from the reports and are not computed anew.

mod charts;
mod facts;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::{
    chart::{STYLE, escape},
    report::Report,
};

const PAGE_STYLE: &str = include_str!("page.css");
const PAGE_SCRIPT: &str = include_str!("page.js");

/// A report with the name it is shown by.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) report: Report,
}

/// The page about these reports, at least one.
pub(crate) fn page(reports: &[Named]) -> Result<String> {
    let first = &reports.first().context("no report to show")?.report;
    let (title, body) = match reports {
        [one] => (facts::headline(&one.report), single(&one.report)),
        several => (format!("{} runs compared", several.len()), compared(several)),
    };
    let raw = raw_json(reports)?;
    let title_text = escape(&title);
    let provenance = escape(&facts::provenance(first));
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title_text}</title>\n\
         <style>\n{PAGE_STYLE}{STYLE}</style>\n</head>\n<body class=\"chart\">\n<main>\n\
         <header><p class=\"eyebrow\">wsload report</p><h1>{title_text}</h1>\
         <p class=\"sub\">{provenance}</p></header>\n{body}\
         <footer><button id=\"download\" type=\"button\">Download the raw data (JSON)</button>\
         </footer>\n</main>\n<div id=\"tip\" hidden></div>\n\
         <script type=\"application/json\" id=\"raw\">{raw}</script>\n\
         <script>\n{PAGE_SCRIPT}</script>\n</body>\n</html>\n"
    ))
}

fn single(report: &Report) -> String {
    let mut body = facts::verdict(report);
    body.push_str(&facts::tiles(report));
    let named = [Named { name: String::new(), report: report.clone() }];
    body.push_str(&section("Latency", &charts::latency(&named)));
    body.push_str(&section("Over time", &charts::over_time(report)));
    body.push_str(&section("Memory and cores", &charts::resources(report)));
    body.push_str(&section("What was checked", &facts::checks(report)));
    body.push_str(&section("Settings and machine", &facts::settings(report)));
    body
}

fn compared(reports: &[Named]) -> String {
    let mut body: String = reports.iter().map(facts::verdict_line).collect();
    body.push_str(&section("Figures", &facts::comparison(reports)));
    body.push_str(&section("Latency", &charts::latency(reports)));
    body.push_str(&section("Over time", &charts::over_time_compared(reports)));
    body.push_str(&section("CPU and memory", &charts::bars_compared(reports)));
    for Named { name, report } in reports {
        body.push_str(&section(&format!("Settings of {name}"), &facts::settings(report)));
    }
    body
}

/// A heading and what belongs to it; nothing if there is nothing.
fn section(heading: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section><h2>{}</h2>\n{content}</section>\n", escape(heading))
}

/// The reports as one JSON text that cannot end its element.
fn raw_json(reports: &[Named]) -> Result<String> {
    let mut text = String::from("{");
    for (at, Named { name, report }) in reports.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let (name, report) = (serde_json::to_string(name)?, serde_json::to_string(report)?);
        let _ = write!(text, "{comma}{name}:{report}");
    }
    text.push('}');
    Ok(text.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests;
