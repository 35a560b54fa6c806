//! Limits against models of what they look for: each has as much to do as it can, and is held to the best fixed
//! limit, found by trying every one.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Adaptive {
    <Option<Adaptive> as OptionValue>::read(text).unwrap().unwrap()
}

#[test]
fn limits_are_read_as_written() {
    assert_eq!(read("aimd").to_string(), "aimd(min=1, max=100)");
    assert_eq!(
        read("gradient(max=20, min=2)").to_string(),
        "gradient(min=2, max=20)"
    );
    assert_eq!(
        read("gradient(per=key)").to_string(),
        "gradient(min=1, max=100, per=key)"
    );
    assert_eq!(read("aimd(min=500)").to_string(), "aimd(min=500, max=500)");
    assert_eq!(<Option<Adaptive>>::read("none"), Ok(None));
    for bad in [
        "",
        "vegas",
        "aimd(0)",
        "aimd(min=0)",
        "aimd(min=5, max=4)",
        "aimd(per=queue)",
        "none(1)",
    ] {
        assert!(<Option<Adaptive>>::read(bad).is_err(), "{bad}");
    }
    for text in ["aimd(min=20, max=30)", "gradient(max=3)", "aimd"] {
        let adaptive = read(text);
        assert_eq!(Limiter::new(adaptive).limit(), adaptive.start() as usize);
    }
    assert_eq!(read("aimd(min=20, max=30)").start(), 20);
    assert_eq!(read("aimd(max=3)").start(), 3);
}

/// Something that is called: how much work each of `n` calls gets done in a second, and how much a call is.
struct Model {
    name: &'static str,
    speed: fn(n: f64, at: f64) -> f64,
    work: fn(random: f64) -> f64,
    timeout: f64,
}

fn exponential(random: f64) -> f64 {
    -(1.0 - random).ln() * 0.05
}

/// A knee at 20 that nothing is lost above.
fn knee(n: f64, _: f64) -> f64 {
    (20.0 / n).min(1.0)
}

static MODELS: [Model; 6] = [
    Model {
        name: "a hard knee",
        speed: knee,
        work: exponential,
        timeout: 10.0,
    },
    Model {
        name: "thrashing beyond a knee",
        speed: |n, _| (20.0 / n).min(1.0) / (1.0 + (n / 20.0 - 1.0).max(0.0)),
        work: exponential,
        timeout: 10.0,
    },
    Model {
        name: "contention from the first (Gunther's law)",
        speed: |n, _| 1.0 / (1.0 + 0.05 * (n - 1.0) + 0.001 * n * (n - 1.0)),
        work: exponential,
        timeout: 10.0,
    },
    Model {
        name: "two sorts of jobs",
        speed: knee,
        work: |random| if random < 0.9 { 0.002 } else { 0.5 },
        timeout: 10.0,
    },
    Model {
        name: "a capacity that halves and comes back",
        speed: |n, at| {
            (if ((at / 60.0) as u64).is_multiple_of(2) {
                30.0
            } else {
                15.0
            } / n)
                .min(1.0)
        },
        work: exponential,
        timeout: 10.0,
    },
    Model {
        name: "timeouts beyond a knee",
        speed: knee,
        work: |random| 0.05 + 0.05 * random,
        timeout: 0.15,
    },
];

/// How many calls succeed in `time` seconds, if as many run as `limit` says after each.
fn run(model: &Model, time: f64, mut limit: impl FnMut(Option<Sample>) -> usize) -> u32 {
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 11) as f64 / (1u64 << 53) as f64
    };
    let (mut now, mut good, mut most) = (0.0, 0, limit(None));
    // What is left to do of each call, and when it began.
    let mut calls: Vec<(f64, f64)> = Vec::new();
    while now < time {
        while calls.len() < most {
            calls.push(((model.work)(random()), now));
        }
        let speed = (model.speed)(calls.len() as f64, now);
        let ends = |(left, began): &(f64, f64)| (left / speed).min(began + model.timeout - now);
        let (first, after) = (0..calls.len())
            .map(|i| (i, ends(&calls[i]).max(0.0)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        now += after;
        calls.iter_mut().for_each(|call| call.0 -= speed * after);
        let inflight = calls.len();
        let (left, began) = calls.swap_remove(first);
        let answer = if left <= 1e-9 {
            Answer::Ok
        } else {
            Answer::TimedOut
        };
        good += u32::from(answer == Answer::Ok);
        most = limit(Some(Sample {
            took: Duration::from_secs_f64(now - began),
            inflight,
            answer,
            now: Timestamp::EPOCH.after(Duration::from_secs_f64(now)),
        }));
    }
    good
}

/// So long runs a model, in seconds.
const TIME: f64 = 200.0;

/// What the best fixed limit gets done with each model. Looked for once: it is most of the work.
fn best() -> &'static [u32] {
    static BEST: OnceLock<Vec<u32>> = OnceLock::new();
    let fixed = [
        1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 25, 30, 35, 40, 50, 70, 100,
    ];
    let of = |model| fixed.iter().map(|n| run(model, TIME, |_| *n)).max().unwrap();
    BEST.get_or_init(|| MODELS.iter().map(of).collect())
}

/// What the limiter gets done with each model, as a share of what the best fixed limit does.
fn scores(adaptive: &str) -> impl Iterator<Item = (&'static str, f64)> {
    let score = move |(model, best): (&'static Model, &u32)| {
        let mut limiter = Limiter::new(read(adaptive));
        let got = run(model, TIME, |sample| match sample {
            Some(sample) => limiter.sample(sample),
            None => limiter.limit(),
        });
        (model.name, f64::from(got) / f64::from(*best))
    };
    MODELS.iter().zip(best()).map(score)
}

#[test]
fn gradient_is_near_the_best_fixed_limit() {
    for (model, share) in scores("gradient") {
        assert!(share > 0.9, "{share:.3} for {model}");
    }
}

#[test]
fn aimd_keeps_most_of_the_work() {
    for (model, share) in scores("aimd") {
        assert!(share > 0.75, "{share:.3} for {model}");
    }
}

#[test]
fn a_limit_that_is_not_used_stays() {
    for law in ["aimd", "gradient"] {
        let mut limiter = Limiter::new(read(law));
        for i in 0..10_000u64 {
            let sample = Sample {
                took: Duration::from_millis(5),
                inflight: 2,
                answer: Answer::Ok,
                now: Timestamp::EPOCH.after(Duration::from_millis(i)),
            };
            assert_eq!(limiter.sample(sample), 8, "{law}");
        }
    }
}

#[test]
fn what_is_told_to_slow_down_does() {
    for law in ["aimd(min=2)", "gradient(min=2)"] {
        let mut limiter = Limiter::new(read(law));
        for i in 0..500 {
            let (inflight, now) = (limiter.limit(), Timestamp::EPOCH.after(Duration::from_millis(i)));
            let took = Duration::from_millis(5);
            limiter.sample(Sample {
                took,
                inflight,
                answer: Answer::Limited,
                now,
            });
        }
        assert!(limiter.limit() <= 3, "{law}: {}", limiter.limit());
    }
}

proptest! {
    /// Whatever it is told, the limit keeps between floor and ceiling.
    #[test]
    fn limits_keep_their_bounds(
        samples in prop::collection::vec((0..u64::MAX, 0..500usize, 0..4u8, 0..1_000_000u64), 1..600),
        min in 1..50u32,
        more in 0..50u32,
        aimd in any::<bool>(),
    ) {
        let law = if aimd { Law::Aimd } else { Law::Gradient };
        let mut limiter = Limiter::new(Adaptive::new(law).between(min, min + more).unwrap());
        let mut now = Timestamp::EPOCH;
        for (took, inflight, answer, step) in samples {
            now = now.after(Duration::from_micros(step));
            let answer = [Answer::Ok, Answer::Failed, Answer::Limited, Answer::TimedOut][usize::from(answer)];
            let limit = limiter.sample(Sample { took: Duration::from_nanos(took), inflight, answer, now });
            prop_assert!((min as usize..=(min + more) as usize).contains(&limit), "{}", limit);
        }
    }
}
