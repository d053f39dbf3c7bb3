//! The field in pictures: bars of every server's CPU per delivery, and of its memory per client.
//!
//! Drawn from the raw reports of a directory, like the table. A server has one colour in all.

use wsload::chart::{Bar, Bars, Place, Unit};

use super::{
    figures::{CPU_PER_CONNECT, CPU_PER_DELIVERY, DELIVERIES, Figure, RSS_PER_CLIENT, Spread},
    setup::Comparisons,
    summary::Summary,
};

/// One group of bars.
struct Group {
    heading: &'static str,
    scenario: &'static str,
    figure: Figure,
    /// In multiples of the first server.
    is_ratio: bool,
}

/// A picture: the ending of its file's name, and what it shows.
struct Picture {
    ending: &'static str,
    title: &'static str,
    unit: Unit,
    groups: &'static [Group],
}

const PICTURES: &[Picture] = &[
    Picture {
        ending: "cpu.svg",
        title: "Server CPU per delivery, in multiples of the floor's",
        unit: Unit::Plain,
        groups: &[
            group("live: 1,000 clients, 50 messages/s", "live", CPU_PER_DELIVERY, true),
            group("wide: 15,000 clients, 8 messages/s", "wide", CPU_PER_DELIVERY, true),
        ],
    },
    Picture {
        ending: "burst.svg",
        title: "Deliveries a second, one core, 1,000 clients, 16 publishers",
        unit: Unit::Plain,
        groups: &[group("", "burst", DELIVERIES, false)],
    },
    Picture {
        ending: "clients.svg",
        title: "Process memory per idle client, 18,000 clients",
        unit: Unit::Bytes,
        groups: &[group("", "idle", RSS_PER_CLIENT, false)],
    },
    Picture {
        ending: "accept.svg",
        title: "CPU per accepted client, 10,000 clients",
        unit: Unit::Micros,
        groups: &[group("", "accept", CPU_PER_CONNECT, false)],
    },
];

const fn group(
    heading: &'static str,
    scenario: &'static str,
    figure: Figure,
    is_ratio: bool,
) -> Group {
    Group { heading, scenario, figure, is_ratio }
}

/// (Ending of the file's name, SVG): those that the records have figures for.
pub(crate) fn pictures(records: &Comparisons) -> Vec<(String, String)> {
    let mut names: Vec<&str> = Vec::new();
    for group in PICTURES.iter().flat_map(|picture| picture.groups) {
        let Some((_, summary)) = records.get(group.scenario) else { continue };
        let new: Vec<&str> = summary.names().filter(|name| !names.contains(name)).collect();
        names.extend(new);
    }
    let mut drawn = Vec::new();
    for Picture { ending, title, unit, groups } in PICTURES {
        let groups: Vec<(String, Vec<Bar>)> = groups
            .iter()
            .filter_map(|group| {
                let (_, summary) = records.get(group.scenario)?;
                let bars: Vec<Bar> = names
                    .iter()
                    .enumerate()
                    .filter_map(|(at, name)| bar(summary, at, name, group))
                    .collect();
                (!bars.is_empty()).then(|| (group.heading.to_owned(), bars))
            })
            .collect();
        if !groups.is_empty() {
            let bars =
                Bars { title: (*title).to_owned(), note: String::new(), unit: *unit, groups };
            drawn.push(((*ending).to_owned(), bars.svg(Place::File)));
        }
    }
    drawn
}

fn bar(summary: &Summary, series: usize, name: &str, group: &Group) -> Option<Bar> {
    let Spread { median, min, max } = if group.is_ratio {
        summary.ratio(name, &group.figure)?
    } else {
        summary.spread(name, &group.figure)?
    };
    let range = (min < max).then_some((min, max));
    Some(Bar { name: name.to_owned(), value: median, range, series })
}
