//! A chart is text that browsers must accept: well-formed, escaped, inside its frame.

use super::*;

fn lines() -> Lines {
    Lines {
        title: "Deliveries & <CPU>".to_owned(),
        note: "by \"time\"".to_owned(),
        x: Axis::new("time", Unit::Seconds, Scale::Linear),
        y: Axis::new("deliveries a second", Unit::Plain, Scale::Linear),
        series: vec![
            Series::line("a<b>", (0..50).map(|i| (f64::from(i) * 0.1, 1e4 * f64::from(i)))),
            Series::line("gap", [(0.0, 5.0), (1.0, f64::NAN), (2.0, 7.0)]),
        ],
    }
}

/// Every element that is opened is closed, in order.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert!(!text.contains('>') || open.contains(&"style"), "stray >: {text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn text_is_escaped_and_elements_are_closed() {
    for place in [Place::File, Place::Page] {
        let svg = lines().svg(place);
        assert_well_formed(&svg);
        assert!(svg.contains("Deliveries &amp; &lt;CPU&gt;"));
        assert!(!svg.contains("a<b>"));
    }
    assert_eq!(
        escape("<a href=\"x\" onload='y'>&\0\u{1b}"),
        "&lt;a href=&quot;x&quot; onload=&#39;y&#39;&gt;&amp;"
    );
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let svg = lines().svg(Place::File);
    let without_namespace = svg.replace("http://www.w3.org/2000/svg", "");
    assert!(!without_namespace.contains("//") && !svg.contains("url("));
}

#[test]
fn no_number_is_missing_from_a_path() {
    for scale in [Scale::Linear, Scale::Log] {
        let mut chart = lines();
        chart.x.scale = scale;
        chart.y.scale = scale;
        let svg = chart.svg(Place::File);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
    let empty = Lines::default().svg(Place::File);
    assert!(!empty.contains("NaN") && !empty.contains("inf"));
    let bars = Bars { groups: vec![(String::new(), vec![Bar::default()])], ..Bars::default() };
    assert!(!bars.svg(Place::File).contains("NaN"));
}

#[test]
fn values_have_words() {
    let words = |unit: Unit, value| unit.words(value);
    assert_eq!(words(Unit::Plain, 2_500_000.0), "2.5 M");
    assert_eq!(words(Unit::Plain, 19_000.0), "19 k");
    assert_eq!(words(Unit::Plain, 2_000.0), "2,000");
    assert_eq!(words(Unit::Plain, 0.0), "0");
    assert_eq!(words(Unit::Micros, 750.0), "750 µs");
    assert_eq!(words(Unit::Micros, 1_500.0), "1.5 ms");
    assert_eq!(words(Unit::Bytes, 65_536.0), "64 KiB");
    assert_eq!(words(Unit::Percent, 97.25), "97.2 %");
}

#[test]
fn bars_say_their_values_and_ranges() {
    let bar = Bar { name: "wsbcast".into(), value: 0.41, range: Some((0.4, 0.45)), series: 1 };
    let svg =
        Bars { groups: vec![("burst".into(), vec![bar])], ..Bars::default() }.svg(Place::File);
    assert_well_formed(&svg);
    assert!(svg.contains(">0.41<") && svg.contains(">wsbcast<") && svg.contains("\"range\""));
}
