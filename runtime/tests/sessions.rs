//! Sessions side by side and at changing sizes: the same bits as alone and fresh, one set of threads, memory that
//! settles. What single ops compute is checked elsewhere.

#![allow(clippy::unwrap_used)]

use frit_ir::{DType, Module, Tensor, text};
use frit_runtime::{Engine, EngineOptions, Model};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests of this file count the process's threads and its time: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const LAYER: &str = r#"module {
  weight @up: f32[64, 256]
  weight @down: f32[256, 64]
  weight @scale: f32[64]
  graph forward(x: f32[batch, sequence, 64]) {
    %1: f32[batch, sequence, 64] = Attention(x, x, x, _) {q_heads = 4, kv_heads = 4, scale = 0.25}
    %2: f32[batch, sequence, 64] = Add(x, %1)
    %3: f32[batch, sequence, 256] = MatMul(%2, @up)
    %4: f32[batch, sequence, 256] = Gelu(%3) {approximate = "none"}
    %5: f32[batch, sequence, 64] = MatMul(%4, @down)
    %6: f32[batch, sequence, 64] = LayerNormalization(%5, @scale) {axis = -1, epsilon = 0.00001}
    %7: f32[batch, 64, sequence] = Transpose(%6) {perm = [0, 2, 1]}
    return y = %6, t = %7
  }
}"#;

const CACHED: &str = r#"module {
  graph step(x: f32[batch, new, 8], kept: f32[batch, past, 8]) {
    %1: f32[batch, past + new, 8] = Concat(kept, x) {axis = 1}
    %2: f32[batch, new, 8] = Attention(x, %1, %1, _) {q_heads = 2, kv_heads = 2, scale = 0.5, causal = true}
    %3: f32[batch, past + new, 8] = Exp(%1)
    return y = %2, e = %3, all = %1
    state kept -> all {axis = 1}
  }
}"#;

fn wave(shape: &[usize], pace: f64) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n).map(|i| (i as f64 * pace).sin() * 0.3).collect();
    Tensor::from_f64(DType::F32, shape, &values).unwrap()
}

fn model(source: &str, threads: usize) -> Model {
    let mut module: Module = text::parse(source).unwrap();
    let names = [("up", vec![64, 256]), ("down", vec![256, 64]), ("scale", vec![64])];
    for (i, (name, shape)) in names.iter().enumerate() {
        if let Some(id) = module.weights.find(name) {
            module.weights.set_data(id, wave(shape, 0.7 + i as f64));
        }
    }
    let engine = Engine::new(EngineOptions { threads: Some(threads), ..Default::default() }).unwrap();
    engine.model(module).unwrap()
}

fn results(session: &mut frit_runtime::Session, x: &Tensor) -> Vec<Tensor> {
    let outputs = session.run(&[("x", x)]).unwrap();
    let names: Vec<String> = outputs.names().map(str::to_owned).collect();
    names.iter().map(|n| outputs.tensor(n).unwrap()).collect()
}

#[test]
fn sessions_at_once_give_the_bits_of_one_alone() {
    let _alone = alone();
    let shared = model(LAYER, 3);
    let inputs: Vec<Tensor> = (0..6).map(|i| wave(&[1 + i % 3, 20 + 13 * i, 64], 0.11 + i as f64)).collect();
    let expected: Vec<Vec<Tensor>> =
        inputs.iter().map(|x| results(&mut shared.session("forward").unwrap(), x)).collect();
    let one = model(LAYER, 1);
    for (x, want) in inputs.iter().zip(&expected) {
        assert_eq!(&results(&mut one.session("forward").unwrap(), x), want, "one thread, {x:?}");
    }
    std::thread::scope(|scope| {
        for (x, want) in inputs.iter().zip(&expected) {
            let shared = &shared;
            scope.spawn(move || {
                let mut session = shared.session("forward").unwrap();
                for _ in 0..20 {
                    assert_eq!(&results(&mut session, x), want);
                }
            });
        }
    });
}

#[test]
fn changing_sizes_change_no_result_and_memory_settles() {
    let _alone = alone();
    let model = model(LAYER, 2);
    let sizes = [[1, 16], [4, 128], [2, 40], [1, 129], [8, 5], [4, 128], [3, 17], [1, 1]];
    let inputs: Vec<Tensor> = sizes.iter().map(|[b, s]| wave(&[*b, *s, 64], 0.05)).collect();
    let mut session = model.session("forward").unwrap();
    let mut held = 0;
    for round in 0..3 {
        for x in &inputs {
            let fresh = results(&mut model.session("forward").unwrap(), x);
            assert_eq!(results(&mut session, x), fresh, "{x:?}");
        }
        if round > 0 {
            assert_eq!(session.memory_bytes(), held, "sizes seen before need no more memory");
        }
        held = session.memory_bytes();
    }
}

#[test]
fn a_cache_that_grows_changes_no_result() {
    let _alone = alone();
    let model = model(CACHED, 2);
    let mut session = model.session("step").unwrap();
    let whole = wave(&[2, 90, 8], 0.3);
    let rows = |from: usize, to: usize| {
        let part = |b: usize| whole.bytes()[(b * 90 + from) * 32..(b * 90 + to) * 32].to_vec();
        Tensor::from_bytes(DType::F32, &[2, to - from, 8], &[part(0), part(1)].concat()).unwrap()
    };
    let mut at = 0;
    for new in [3, 1, 1, 1, 7, 1, 1, 30, 1, 1, 1, 40, 1, 1] {
        let got = results(&mut session, &rows(at, at + new));
        at += new;
        assert_eq!(session.state_len(), at);
        assert_eq!(got[2], rows(0, at), "the cache after {at} rows");
        let mut fresh = model.session("step").unwrap();
        let all = results(&mut fresh, &rows(0, at));
        assert_eq!(got[1], all[1], "what is computed from the cache after {at} rows");
    }
    session.truncate_state(10);
    let got = results(&mut session, &rows(10, 12));
    assert_eq!((session.state_len(), &got[2]), (12, &rows(0, 12)));
}

#[cfg(target_os = "linux")]
mod processes {
    use super::*;
    use std::time::{Duration, Instant};

    fn threads() -> usize {
        std::fs::read_dir("/proc/self/task").unwrap().count()
    }

    /// Clock ticks of processor time that this process has used; a tick is a hundredth of a second.
    fn ticks() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    #[test]
    fn one_thread_starts_none_and_more_are_shared() {
        let _alone = alone();
        let named = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let name = |t: std::io::Result<std::fs::DirEntry>| {
                std::fs::read_to_string(t.unwrap().path().join("comm")).unwrap_or_default()
            };
            tasks.map(name).filter(|n| n.starts_with("frit-")).count()
        };
        // Threads of engines that other tests dropped may still be on their way out.
        let begin = Instant::now();
        while named() > 0 && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let x = wave(&[2, 50, 64], 0.2);
        let before = threads();
        let single = model(LAYER, 1);
        assert_eq!(single.engine().threads(), 1);
        results(&mut single.session("forward").unwrap(), &x);
        assert_eq!(threads(), before, "one thread is the caller's");
        let shared = model(LAYER, 3);
        let mut sessions: Vec<_> = (0..5).map(|_| shared.session("forward").unwrap()).collect();
        sessions.iter_mut().for_each(|s| drop(results(s, &x)));
        assert_eq!(named(), 3, "five sessions share the engine's three threads");
    }

    #[test]
    fn an_idle_engine_uses_no_processor_time() {
        let _alone = alone();
        let model = model(LAYER, 2);
        let mut session = model.session("forward").unwrap();
        results(&mut session, &wave(&[4, 100, 64], 0.2));
        std::thread::sleep(Duration::from_millis(20));
        let before = ticks();
        std::thread::sleep(Duration::from_millis(300));
        let used = ticks() - before;
        assert!(used <= 5, "{used} hundredths of a second in three tenths of idling");
    }
}
