//! The TFHE-rs side of bench/lookups.py: wall time of keyswitch + PBS on a batch of 4-bit values (2 bits of message,
//! 2 of carry), one JSON object a line for each parameter set, with the field names of `torusml bench lut --json`.
//!
//!     peer-tfhe-rs --threads 2 --batch 64 --rounds 3 [--sets 2_2_gaussian,2_2_ks32_tuniform]
//!
//! The batch is shared by a pool of that many threads. A multi-bit set makes a helper thread for each lookup, so a
//! figure on one thread needs the whole process on one core: `taskset -c 0`, as bench/lookups.py does.

use rayon::prelude::*;
use std::time::Instant;
use tfhe::core_crypto::commons::parameters::ThreadCount;
use tfhe::shortint::atomic_pattern::AtomicPatternServerKey;
use tfhe::shortint::parameters::v1_8::*;
use tfhe::shortint::parameters::{AtomicPatternParameters, PBSParameters};
use tfhe::shortint::server_key::{ServerKey, ShortintBootstrappingKey};
use tfhe::shortint::{gen_keys, Ciphertext};

const BITS: u32 = 4;
const NORM2: u32 = 5; // of every set below: the sum of five results of a lookup may be looked up again
const SECURITY_BITS: u32 = 132;
const P_ERROR: f64 = 2.938_735_877_055_719e-39; // 2^-128

// The multi-bit sets are two to three times slower on a batch; they run when they are named.
const DEFAULT_SETS: [&str; 3] = ["2_2_gaussian", "2_2_tuniform", "2_2_ks32_tuniform"];

struct Options {
    threads: usize,
    batch: usize,
    rounds: usize,
    sets: Vec<String>,
}

fn parameter_sets() -> Vec<(&'static str, AtomicPatternParameters)> {
    let multi_bit = |p| AtomicPatternParameters::from(PBSParameters::MultiBitPBS(p));
    vec![
        (
            "2_2_gaussian",
            V1_8_PARAM_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M128.into(),
        ),
        (
            "2_2_tuniform",
            V1_8_PARAM_MESSAGE_2_CARRY_2_KS_PBS_TUNIFORM_2M128.into(),
        ),
        (
            "2_2_ks32_tuniform",
            V1_8_PARAM_MESSAGE_2_CARRY_2_KS32_PBS_TUNIFORM_2M128.into(),
        ),
        (
            "2_2_multi_bit_2_gaussian",
            multi_bit(V1_8_PARAM_MULTI_BIT_GROUP_2_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M128),
        ),
        (
            "2_2_multi_bit_3_gaussian",
            multi_bit(V1_8_PARAM_MULTI_BIT_GROUP_3_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M128),
        ),
    ]
}

fn fail(message: &str) -> ! {
    eprintln!("peer-tfhe-rs: {message}");
    std::process::exit(2)
}

fn positive(name: &str, text: &str) -> usize {
    match text.parse() {
        Ok(value) if value > 0 => value,
        _ => fail(&format!("{name} takes a positive number, not '{text}'")),
    }
}

fn read_options() -> Options {
    let mut options = Options {
        threads: 1,
        batch: 64,
        rounds: 3,
        sets: DEFAULT_SETS.map(String::from).to_vec(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .unwrap_or_else(|| fail(&format!("{name} needs a value")));
        match name.as_str() {
            "--threads" => options.threads = positive(&name, &value),
            "--batch" => options.batch = positive(&name, &value),
            "--rounds" => options.rounds = positive(&name, &value),
            "--sets" => options.sets = value.split(',').map(String::from).collect(),
            _ => fail(&format!("there is no option {name}")),
        }
    }
    options
}

/// The library gives a multi-bit lookup 5 or more threads, whatever the machine has. Here lookups run beside each
/// other, so one helper each is the faster choice.
fn bound_threads(key: &mut ServerKey) {
    if let AtomicPatternServerKey::Standard(standard) = &mut key.atomic_pattern {
        if let ShortintBootstrappingKey::MultiBit { thread_count, .. } = &mut standard.bootstrapping_key {
            *thread_count = ThreadCount(1);
        }
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 {
        times[middle]
    } else {
        0.5 * (times[middle - 1] + times[middle])
    }
}

fn measure(name: &str, parameters: AtomicPatternParameters, options: &Options) {
    let start = Instant::now();
    let (client_key, mut server_key) = gen_keys(parameters);
    let keygen_s = start.elapsed().as_secs_f64();
    bound_threads(&mut server_key);

    let modulus = client_key.parameters().message_modulus().0 * client_key.parameters().carry_modulus().0;
    let function = |x: u64| (5 * x + 3) % modulus;
    let table = server_key.generate_lookup_table(function);
    let inputs: Vec<u64> = (0..options.batch as u64).map(|i| i % modulus).collect();
    let encrypted: Vec<_> = inputs.iter().map(|&x| client_key.unchecked_encrypt(x)).collect();
    let lookup_all = || -> Vec<_> {
        encrypted
            .par_iter()
            .map(|c| server_key.apply_lookup_table(c, &table))
            .collect()
    };

    drop(lookup_all()); // warms up
    let mut times = Vec::new();
    let mut correct = 0;
    for _ in 0..options.rounds {
        let begin = Instant::now();
        let outputs = lookup_all();
        times.push(begin.elapsed().as_secs_f64() * 1e3 / options.batch as f64);
        let is_right = |x: u64, c: &Ciphertext| client_key.decrypt_message_and_carry(c) == function(x);
        correct += inputs.iter().zip(&outputs).filter(|(&x, c)| is_right(x, c)).count();
    }
    let checked = options.batch * options.rounds;
    let middle = median(&mut times);
    println!(
        "{{\"system\": \"tfhe-rs\", \"version\": \"1.8.2\", \"set\": \"{name}\", \"bits\": {BITS}, \
         \"norm2\": {NORM2}, \"p_error\": {P_ERROR:e}, \"security_bits\": {SECURITY_BITS}, \
         \"threads\": {threads}, \"batch\": {batch}, \"rounds\": {rounds}, \"ms_per_lookup\": {middle:.4}, \
         \"ms_per_lookup_min\": {least:.4}, \"ms_per_lookup_max\": {most:.4}, \"keygen_s\": {keygen_s:.3}, \
         \"checked\": {checked}, \"correct\": {correct}}}",
        threads = options.threads,
        batch = options.batch,
        rounds = options.rounds,
        least = times[0],
        most = times[times.len() - 1],
    );
}

fn main() {
    let options = read_options();
    let known = parameter_sets();
    for name in &options.sets {
        if known.iter().all(|(other, _)| other != name) {
            fail(&format!("there is no set '{name}'"));
        }
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()
        .expect("the pool is made once");
    for (name, parameters) in known {
        if options.sets.iter().any(|wanted| wanted == name) {
            measure(name, parameters, &options);
        }
    }
}
