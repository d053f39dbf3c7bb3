//! Places: which connections have one, which leave first, and which never have to.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{
    super::connection::places::{Charge, Places, Room, Stage},
    Fixture, IDLE_TIMEOUT, LOCAL, ROOM, body, header, read_answer, request, settle, status,
};
use crate::{
    clock::Clock,
    limits::{
        HTTP_CROWDED_LOOK, HTTP_CROWDED_PATIENCE, HTTP_INPUT_BYTES_MAX, HTTP_LIFE_MAX,
        HTTP_LITTLE_WORK_BYTES, HTTP_MEMORY_PATIENCE, HTTP_MEMORY_WAIT, HTTP_MUCH_WORK_BYTES_MAX,
        HTTP_PATIENCE, HTTP_WORK_BYTES_MAX,
    },
    metrics::{Dismissed, ShardMetrics},
};

const FEW: Room = Room { places: 3, spare: 1 };

/// Connections as tasks that stay in a stage and do nothing; which of them are still there.
struct Seats {
    places: Rc<Places>,
    metrics: Arc<ShardMetrics>,
    is_seated: Vec<Rc<Cell<bool>>>,
}

impl Seats {
    fn new() -> Self {
        let metrics = Arc::new(ShardMetrics::default());
        let places = Places::new(Clock::start(), FEW, 1, metrics.clone());
        Self { places, metrics, is_seated: Vec::new() }
    }

    async fn seat(&mut self, stage: Stage) {
        let is_seated = Rc::new(Cell::new(true));
        self.is_seated.push(is_seated.clone());
        let on_end = OnEnd(is_seated);
        self.places.seat(0, move |place| async move {
            place.standing().enter(stage);
            let _on_end = (on_end, place);
            pending().await
        });
        settle().await;
        sleep(Duration::from_millis(1)).await;
    }

    fn seated(&self) -> Vec<bool> {
        self.is_seated.iter().map(|one| one.get()).collect()
    }

    fn dismissed(&self, why: Dismissed) -> u64 {
        self.metrics.http_dismissed.get(why as usize)
    }
}

/// Sets it to false when the task ends.
struct OnEnd(Rc<Cell<bool>>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

async fn on_local(test: impl AsyncFnOnce()) {
    tokio::task::LocalSet::new().run_until(test()).await;
}

/// The connection that has kept the server waiting longest makes room.
#[tokio::test(start_paused = true)]
async fn the_longest_waiting_connection_makes_room() {
    on_local(async || {
        let mut seats = Seats::new();
        for stage in [Stage::Busy, Stage::Head, Stage::Idle] {
            seats.seat(stage).await;
        }
        sleep(HTTP_PATIENCE).await;
        seats.places.room().await;
        assert_eq!(seats.seated(), [true, false, true]);
        assert_eq!(seats.dismissed(Dismissed::Unfinished), 1);
        seats.seat(Stage::Fresh).await;
        seats.places.room().await;
        assert_eq!(seats.seated(), [true, false, false, true]);
        assert_eq!(seats.dismissed(Dismissed::Idle), 1);
        seats.seat(Stage::Idle).await;
        let asked = Clock::start().instant();
        seats.places.room().await;
        assert_eq!(seats.seated(), [true, false, false, false, true], "the silent one is next");
        let took = asked.elapsed();
        assert!(took >= HTTP_PATIENCE / 2, "it has had its time: {took:?}");
        assert!(took <= HTTP_PATIENCE + HTTP_CROWDED_LOOK, "{took:?}");
    })
    .await;
}

/// A connection that sends a body or takes an answer goes only when nobody else waits.
#[tokio::test(start_paused = true)]
async fn an_active_transfer_goes_last() {
    on_local(async || {
        let mut seats = Seats::new();
        seats.seat(Stage::Answering).await;
        seats.seat(Stage::Busy).await;
        seats.seat(Stage::Idle).await;
        sleep(HTTP_PATIENCE).await;
        seats.places.room().await;
        assert_eq!(seats.seated(), [true, true, false]);
        seats.seat(Stage::Busy).await;
        seats.places.room().await;
        assert_eq!(seats.seated(), [false, true, false, true]);
        assert_eq!(seats.dismissed(Dismissed::Unread), 1);
    })
    .await;
}

/// Newcomers get spare places at once when the server's own work is everywhere.
#[tokio::test(start_paused = true)]
async fn newcomers_get_the_spare_places() {
    on_local(async || {
        let mut seats = Seats::new();
        for _ in 0..FEW.places {
            seats.seat(Stage::Busy).await;
        }
        let asked = Clock::start().instant();
        seats.places.room().await;
        assert!(asked.elapsed() >= HTTP_CROWDED_PATIENCE, "a moment's work is waited for");
        seats.seat(Stage::Fresh).await;
        sleep(HTTP_PATIENCE).await;
        for _ in 0..10 {
            let asked = Clock::start().instant();
            seats.places.room().await;
            assert!(asked.elapsed() <= HTTP_CROWDED_LOOK, "silence holds no spare place");
            seats.seat(Stage::Fresh).await;
            sleep(HTTP_PATIENCE).await;
        }
        let seated = seats.seated();
        assert!(seated[..FEW.places].iter().all(|one| *one), "work is never cut off");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_before_their_turn_are_not_sent_away() {
    let places = Places::new(Clock::start(), FEW, 1, Arc::default());
    let place = places.enter();
    place.set_queued(true);
    sleep(2 * HTTP_PATIENCE).await;
    assert!(!places.make_room());
    place.set_queued(false);
    assert!(places.make_room());
}

#[tokio::test(start_paused = true)]
async fn a_spare_place_is_for_probes_until_another_is_free() {
    let server = Fixture::new().start();
    let at_work = (0..ROOM.places).map(|_| {
        let place = server.places.enter();
        place.standing().enter(Stage::Busy);
        place
    });
    let at_work: Vec<_> = at_work.collect();
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        client.write_all(request("GET /livez", &[], "").as_bytes()).await.unwrap();
        let answer = read_answer(&mut client).await;
        assert_eq!((status(&answer), header(&answer, "connection").as_str()), (200, "close"));
    };
    tokio::join!(serving.map(drop), asking);
    for target in ["POST /broadcast", "GET /metrics", "GET /ws"] {
        let answer = server.ask(request(target, &[], "")).await;
        assert_eq!(status(&answer), 503, "{answer}");
        assert_eq!(body(&answer)["error"], "full");
        assert_eq!(header(&answer, "retry-after"), "1");
        assert_eq!(header(&answer, "connection"), "close");
    }
    let (serving, mut client) = server.connect(LOCAL);
    drop(at_work);
    let asking = async {
        client.write_all(request("GET /metrics", &[], "").as_bytes()).await.unwrap();
        let answer = read_answer(&mut client).await;
        assert_eq!(status(&answer), 200, "a place has become free");
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
    assert_eq!(status(&server.ask(request("GET /metrics", &[], "")).await), 200);
}

/// A connection that only asks lives for five minutes and is told so before its end.
#[tokio::test(start_paused = true)]
async fn a_connection_that_only_asks_lives_for_five_minutes() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let accepted = Clock::start().instant();
    let asking = async {
        loop {
            client.write_all(request("GET /livez", &[], "").as_bytes()).await.unwrap();
            let answer = read_answer(&mut client).await;
            assert_eq!(status(&answer), 200);
            if header(&answer, "connection") == "close" {
                return client.read(&mut [0]).await.unwrap();
            }
            let told = format!("timeout={}", IDLE_TIMEOUT.as_secs());
            assert_eq!(header(&answer, "keep-alive"), told);
            sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        }
    };
    let (_, end) = tokio::join!(serving.map(drop), asking);
    assert_eq!(end, 0);
    let lived = accepted.elapsed();
    assert!(lived <= HTTP_LIFE_MAX && lived > HTTP_LIFE_MAX - 2 * IDLE_TIMEOUT, "{lived:?}");
}

/// A long idle timeout is cut at the end of life, and the answer says so.
#[tokio::test(start_paused = true)]
async fn a_long_idle_timeout_ends_with_the_connections_life() {
    let server = Fixture::with(|context| context.settings.idle_timeout = 10 * HTTP_LIFE_MAX);
    let server = server.start();
    let (serving, mut client) = server.connect(LOCAL);
    let accepted = Clock::start().instant();
    let asking = async {
        sleep(Duration::from_secs(5)).await;
        client.write_all(request("GET /livez", &[], "").as_bytes()).await.unwrap();
        let answer = read_answer(&mut client).await;
        let told = format!("timeout={}", HTTP_LIFE_MAX.as_secs() - 5);
        assert_eq!(header(&answer, "keep-alive"), told);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(accepted.elapsed().as_secs(), HTTP_LIFE_MAX.as_secs());
    };
    tokio::join!(serving.map(drop), asking);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_publishes_lives_on() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        for round in 0..40 {
            let publish = request("POST /broadcast", &[], "x");
            client.write_all(publish.as_bytes()).await.unwrap();
            let answer = read_answer(&mut client).await;
            assert_eq!(status(&answer), 202, "{round}");
            assert_eq!(header(&answer, "connection"), "keep-alive", "{round}");
            sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        }
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
}

#[tokio::test]
async fn only_who_stays_is_told_for_how_long() {
    let server = Fixture::new().start();
    for (line, headers, told) in [
        ("GET /livez", &[][..], "timeout=20"),
        ("GET /nothing", &[], "timeout=20"),
        ("GET /livez", &["Connection: close"], ""),
        ("GET /livez", &["Connection: x, Close"], ""),
    ] {
        let answer = server.ask(request(line, headers, "")).await;
        assert_eq!(header(&answer, "keep-alive"), told, "{line} {headers:?}");
    }
    assert_eq!(header(&server.ask("GET /livez HTTP/1.0\r\n\r\n").await, "keep-alive"), "");
    let kept = "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(header(&server.ask(kept).await, "keep-alive"), "timeout=20");
}

/// A connection that is in `stage` and holds `bytes`, of a body or of an answer; returns whether it
/// is still there.
async fn holding(places: &Rc<Places>, stage: Stage, bytes: usize) -> Rc<Cell<bool>> {
    let is_there = Rc::new(Cell::new(true));
    let on_end = OnEnd(is_there.clone());
    places.seat(0, move |place| async move {
        place.standing().enter(stage);
        place.standing().set_body_unread(true);
        let mut charge = place.standing().charge();
        assert!(take(&mut charge, stage, bytes));
        let _held = (charge, on_end, place);
        pending().await
    });
    settle().await;
    is_there
}

fn take(charge: &mut Charge, stage: Stage, bytes: usize) -> bool {
    match stage {
        Stage::Answering => charge.add_answer(bytes),
        _ => charge.grow_to(bytes),
    }
}

fn crowd() -> Rc<Places> {
    Places::new(Clock::start(), Room { places: 4096, spare: 2 }, 1, Arc::default())
}

/// Unfinished heads share a budget, and the oldest of them goes.
#[tokio::test(start_paused = true)]
async fn unfinished_heads_share_a_budget() {
    on_local(async || {
        let places = crowd();
        let mut there = Vec::new();
        for _ in 0..4 {
            there.push(holding(&places, Stage::Head, HTTP_INPUT_BYTES_MAX / 4).await);
            sleep(HTTP_PATIENCE).await;
        }
        let newest = places.enter();
        assert!(newest.standing().hold(1));
        settle().await;
        let left: Vec<_> = there.iter().map(|one| one.get()).collect();
        assert_eq!(left, [false, true, true, true]);
        assert!(newest.standing().hold(HTTP_INPUT_BYTES_MAX / 4), "it grows to that");
    })
    .await;
}

/// A connection that moves no byte of a body or an answer goes for others, and an active one stays.
#[tokio::test(start_paused = true)]
async fn an_idle_transfer_goes_for_others() {
    for (stage, most) in
        [(Stage::Busy, HTTP_INPUT_BYTES_MAX), (Stage::Answering, HTTP_WORK_BYTES_MAX)]
    {
        on_local(async || {
            let places = crowd();
            let stuck = holding(&places, stage, most / 2).await;
            let moving = places.enter();
            moving.standing().enter(stage);
            moving.standing().set_body_unread(true);
            let mut charge = moving.standing().charge();
            assert!(take(&mut charge, stage, most / 2));
            let newcomer = places.enter();
            newcomer.standing().enter(Stage::Busy);
            let mut wanted = newcomer.standing().charge();
            assert!(!take(&mut wanted, stage, 1), "nobody has been stuck for long");
            sleep(HTTP_MEMORY_PATIENCE).await;
            moving.standing().has_moved();
            assert!(take(&mut wanted, stage, 1));
            settle().await;
            assert!(!stuck.get() && moving.standing().stage() == stage);
            assert!(!take(&mut wanted, stage, most / 2 + 1), "nobody else has to go");
            drop(charge);
            assert!(take(&mut wanted, stage, most / 2 + 1));
            drop((wanted, moving, newcomer));
            assert_eq!(places.held(), 0);
        })
        .await;
    }
}

/// Large work waits in line for room, and small work does not.
#[tokio::test(start_paused = true)]
async fn large_work_waits_in_line_and_small_does_not() {
    on_local(async || {
        let places = crowd();
        let [one, other, little] = [(); 3].map(|()| {
            let place = places.enter();
            place.standing().enter(Stage::Busy);
            place
        });
        let mut all = one.standing().charge();
        assert!(all.wait_for(HTTP_MUCH_WORK_BYTES_MAX).await, "there is room");
        let asked = Clock::start().instant();
        assert!(little.standing().charge().wait_for(HTTP_LITTLE_WORK_BYTES).await);
        assert!(!other.standing().charge().wait_for(HTTP_LITTLE_WORK_BYTES + 1).await);
        assert_eq!(asked.elapsed(), HTTP_MEMORY_WAIT);
        let (mut first, mut second) = (other.standing().charge(), little.standing().charge());
        let order = RefCell::new(Vec::new());
        let waits = async |charge: &mut Charge, bytes| {
            assert!(charge.wait_for(bytes).await);
            order.borrow_mut().push(bytes);
        };
        let frees = async {
            settle().await;
            all.shrink_to(HTTP_MUCH_WORK_BYTES_MAX / 2);
        };
        let (large, small) = (HTTP_MUCH_WORK_BYTES_MAX / 2, 2 * HTTP_LITTLE_WORK_BYTES);
        let both = async {
            tokio::join!(waits(&mut first, large), frees);
            first.shrink_to(0);
        };
        tokio::join!(both, waits(&mut second, small));
        assert_eq!(*order.borrow(), [large, small], "who asks for less does not overtake");
        let mut alone = crowd().enter().standing().charge();
        assert!(alone.grow_to(2 * HTTP_WORK_BYTES_MAX), "one alone gets what it needs");
    })
    .await;
}
