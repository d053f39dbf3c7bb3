//! The promises of the table of bans, on a paused clock.

use super::*;

const LONG: Duration = Duration::from_secs(1000);

fn subject(text: &str) -> Bearer {
    Bearer::Subject(text.into())
}

#[test]
fn subjects_and_token_ids_are_apart() {
    let bans = Bans::new(Clock::start());
    assert!(!bans.keep_out(Some("a"), Some("a")));
    bans.add(&subject("a"), LONG).unwrap();
    bans.add(&Bearer::TokenId("7".into()), LONG).unwrap();
    assert!(bans.keep_out(Some("a"), None) && bans.keep_out(Some("a"), Some("x")));
    assert!(bans.keep_out(None, Some("7")) && bans.keep_out(Some("x"), Some("7")));
    assert!(!bans.keep_out(Some("7"), Some("a")) && !bans.keep_out(None, None));
    assert!(!bans.keep_out(Some("A"), None));
}

/// A ban ends by itself, and a later one takes the place of the first.
#[tokio::test(start_paused = true)]
async fn bans_end_in_time() {
    let bans = Bans::new(Clock::start());
    let ms = Duration::from_millis;
    bans.add(&subject("a"), ms(1000)).unwrap();
    bans.add(&subject("b"), ms(1000)).unwrap();
    tokio::time::advance(ms(999)).await;
    assert!(bans.keep_out(Some("a"), None));
    bans.add(&subject("b"), ms(1000)).unwrap();
    tokio::time::advance(ms(1)).await;
    assert!(!bans.keep_out(Some("a"), None) && bans.keep_out(Some("b"), None));
    bans.add(&subject("b"), ms(1)).unwrap();
    tokio::time::advance(ms(1)).await;
    assert!(!bans.keep_out(Some("b"), None), "it was shortened");
}

/// A full table refuses further ones, forgets nobody, and has room when some are over.
#[tokio::test(start_paused = true)]
async fn a_full_table_forgets_nobody() {
    let bans = Bans::new(Clock::start());
    bans.add(&subject("short"), Duration::from_secs(1)).unwrap();
    for number in 1..BANS_MAX {
        bans.add(&subject(&number.to_string()), LONG).unwrap();
    }
    assert_eq!(bans.add(&subject("more"), LONG), Err(BansFull));
    assert_eq!(bans.check_room(&subject("more")), Err(BansFull));
    assert!(bans.keep_out(Some("short"), None) && !bans.keep_out(Some("more"), None));
    bans.add(&subject("1"), LONG).expect("it is in there");
    tokio::time::advance(Duration::from_secs(1)).await;
    bans.add(&subject("more"), LONG).unwrap();
    assert!(bans.keep_out(Some("more"), None) && bans.keep_out(Some("2"), None));
}

fn shared(text: &str, secs: u64, stamp: u64) -> SharedBan {
    SharedBan { bearer: subject(text), time: Duration::from_secs(secs), stamp }
}

/// An announcement that arrives late changes nothing.
#[tokio::test(start_paused = true)]
async fn the_last_command_that_is_heard_counts() {
    let bans = Bans::new(Clock::start());
    let a = subject("a");
    bans.hear(&a, LONG, 5).unwrap();
    bans.hear(&a, Duration::from_millis(1), 7).unwrap();
    bans.hear(&a, LONG, 6).unwrap();
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!bans.keeps_out(&a), "it was shortened");
    bans.hear(&a, LONG, 5).unwrap();
    assert!(!bans.keeps_out(&a), "and is over");
    bans.hear(&a, LONG, 8).unwrap();
    assert!(bans.keeps_out(&a));
    assert_eq!(bans.all_unshared(), []);
    bans.add(&a, LONG).unwrap();
    assert_eq!(bans.all_unshared(), std::slice::from_ref(&a));
    bans.hear(&a, LONG, 9).unwrap();
    assert_eq!(bans.all_unshared(), [], "the one that arrives is the last");
}

/// Redis' clock says 10,000 ms where this process's says 1,000.
#[tokio::test(start_paused = true)]
async fn later_commands_stay_and_redis_is_asked_about_them() {
    let bans = Bans::new(Clock::start());
    tokio::time::advance(Duration::from_secs(1)).await;
    for (who, stamp) in [("same", 9000), ("lost", 9000), ("heard", 9500)] {
        bans.hear(&subject(who), LONG, stamp).unwrap();
    }
    bans.hear(&subject("over"), Duration::ZERO, 9000).unwrap();
    for who in ["earlier", "later", "unknown"] {
        bans.add(&subject(who), LONG / 2).unwrap();
    }
    tokio::time::advance(Duration::from_secs(4)).await;
    let read = [
        shared("same", 1000, 9000),
        shared("heard", 1000, 9400),
        shared("earlier", 20, 12_000),
        shared("later", 20, 9000),
        shared("new", 20, 9000),
    ];
    let (mut asked, taken) = bans.agree(&read, 14_000);
    assert_eq!(taken, Ok(()));
    asked.sort_by_key(|bearer| format!("{bearer:?}"));
    assert_eq!(asked, ["heard", "later", "lost", "unknown"].map(subject));
    let own = |who| bans.own(&subject(who)).unwrap();
    let time = Duration::from_secs(20);
    for (who, stamp) in [("earlier", 12_000), ("new", 9000)] {
        let age = Duration::ZERO;
        assert_eq!(own(who), OwnBan { time, given: Given::Shared(stamp), age }, "{who}");
    }
    let given = Given::Local(Millis(1000) + BAN_MAX);
    let (time, age) = (Duration::from_secs(496), Duration::from_secs(4));
    assert_eq!(own("later"), OwnBan { time, given, age });
    assert_eq!(own("unknown"), OwnBan { time, given, age });
}

/// The answer about one command says nothing of another.
#[tokio::test(start_paused = true)]
async fn answers_count_unless_there_was_another_command() {
    let bans = Bans::new(Clock::start());
    let a = subject("a");
    bans.add(&a, LONG).unwrap();
    let asked = bans.own(&a).unwrap().given;
    tokio::time::advance(Duration::from_secs(1)).await;
    bans.add(&a, LONG).unwrap();
    bans.settle(&a, asked, 7, Some(Duration::ZERO));
    assert!(bans.keeps_out(&a) && bans.all_unshared().len() == 1);
    let asked = bans.own(&a).unwrap().given;
    bans.settle(&a, asked, 7, None);
    let own = OwnBan { time: LONG, given: Given::Shared(7), age: Duration::ZERO };
    assert_eq!(bans.own(&a), Some(own));
    bans.settle(&a, own.given, 8, Some(Duration::ZERO));
    assert!(!bans.keeps_out(&a), "a later command has let it in");
}

/// Bans that others know have room beside those of a process that is full of its own.
#[test]
fn bans_of_others_have_room() {
    let bans = Bans::new(Clock::start());
    for number in 0..BANS_MAX {
        bans.add(&subject(&number.to_string()), LONG).unwrap();
    }
    assert_eq!(bans.add(&subject("more"), LONG), Err(BansFull));
    for number in BANS_MAX..BANS_HEARD_MAX {
        bans.hear(&subject(&number.to_string()), LONG, 1).unwrap();
    }
    assert_eq!(bans.hear(&subject("more"), LONG, 1), Err(BansFull));
    assert_eq!(bans.agree(&[shared("more", 20, 1)], 1).1, Err(BansFull));
}

/// Refusals in a full table cost one look: all entries are looked at only when one may be over.
#[tokio::test(start_paused = true)]
async fn a_full_table_is_looked_through_seldom() {
    let bans = Bans::new(Clock::start());
    for number in 0..BANS_MAX {
        let time = if number < 2 { LONG * (number as u32 + 1) } else { LONG * 3 };
        bans.add(&subject(&number.to_string()), time).unwrap();
    }
    let looks = || bans.table().drop_ended(bans.now());
    assert!(!looks());
    assert_eq!(bans.add(&subject("more"), LONG), Err(BansFull));
    tokio::time::advance(LONG).await;
    assert!(looks(), "one is over");
    assert!(!looks(), "the next one is not");
    bans.add(&subject("more"), LONG * 5).unwrap();
    tokio::time::advance(LONG).await;
    bans.add(&subject("another"), LONG * 5).unwrap();
    assert_eq!(bans.add(&subject("third"), LONG), Err(BansFull));
    assert!(!looks());
}

/// A command is as old in another process as it was in the first, and its bans end when they would
/// have.
#[tokio::test(start_paused = true)]
async fn bans_are_the_same_in_another_process() {
    let old = Bans::new(Clock::start());
    old.hear(&subject("heard"), LONG, 9000).unwrap();
    old.hear(&subject("old"), LONG, 5000).unwrap();
    old.add(&subject("local"), LONG).unwrap();
    old.add(&subject("ended"), Duration::from_secs(1)).unwrap();
    old.add(&Bearer::TokenId("7".into()), 2 * LONG).unwrap();
    tokio::time::advance(Duration::from_secs(400)).await;
    let new = Bans::new(Clock::start());
    new.hear(&subject("old"), LONG, 6000).unwrap();
    new.hear(&subject("local"), Duration::ZERO, 6000).unwrap();
    new.restore(old.record()).unwrap();
    for who in ["heard", "local", "ended"].map(subject).iter().chain([&Bearer::TokenId("7".into())])
    {
        let (old, new) = (old.own(who).unwrap(), new.own(who).unwrap());
        assert_eq!((old.time, old.age), (new.time, new.age), "{who:?}");
        assert!(matches!(
            (old.given, new.given),
            (Given::Local(_), Given::Local(_)) | (Given::Shared(9000), Given::Shared(9000))
        ));
    }
    assert_eq!(new.own(&subject("old")).unwrap().given, Given::Shared(6000), "Redis has said more");
    assert_eq!(new.all_unshared().len(), 3, "and is told of these");
    tokio::time::timeout(LONG, new.unshared()).await.expect("they are waiting");
    // A ban that Redis had before the command, and one that it had after: it is 400 s old.
    let read = |age_ms: u64| [shared("local", 20, 1_000_000 - age_ms)];
    new.agree(&read(400_001), 1_000_000).1.unwrap();
    assert!(matches!(new.own(&subject("local")).unwrap().given, Given::Local(_)));
    new.agree(&read(400_000), 1_000_000).1.unwrap();
    assert_eq!(new.own(&subject("local")).unwrap().time, Duration::from_secs(20));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(!new.keeps_out(&subject("heard")) && new.keep_out(None, Some("7")));
}

#[test]
fn a_recorded_table_of_bans_is_read() {
    let ban = |bearer, left_ms, stamp, ago_ms| BanRecord { bearer, left_ms, stamp, ago_ms };
    let bans = vec![
        ban(subject("ann"), 60_000, Some(1_700_000_000_000), 0),
        ban(Bearer::TokenId("7".into()), 0, None, 1_500),
    ];
    crate::record::recordings::check("bans", &BansRecord { bans });
}
