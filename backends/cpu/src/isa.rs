//! Which instruction set the kernels use, found once at run time.
//!
//! An [`Isa`] value is a proof that the machine has the instructions it names: it can only be had from the
//! constructors here, which ask the processor. Kernels are chosen by it. No kernel lives here.

use std::sync::OnceLock;

/// The instruction-set levels that kernels are written for, from the least to the most able.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain Rust that the compiler vectorises for the build's target.
    Portable,
    /// x86-64 with AVX2 and FMA (x86-64-v3).
    Avx2Fma,
    /// x86-64 with AVX-512 F, BW, DQ and VL, and also AVX2 and FMA (x86-64-v4).
    Avx512,
}

impl Level {
    /// Every level, ascending.
    pub const ALL: [Level; 3] = [Level::Portable, Level::Avx2Fma, Level::Avx512];

    /// The name used on the command line, in artifacts and in the environment: `portable`, `avx2`, `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2Fma => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// The level of that name (see [`Level::name`]); the x86-64 feature levels `generic`, `x86-64-v3` and
    /// `x86-64-v4` name them too.
    pub fn parse(name: &str) -> Option<Level> {
        match name {
            "portable" | "generic" => Some(Level::Portable),
            "avx2" | "x86-64-v3" => Some(Level::Avx2Fma),
            "avx512" | "x86-64-v4" => Some(Level::Avx512),
            _ => None,
        }
    }

    fn supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                || std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            match self {
                Level::Portable => true,
                Level::Avx2Fma => avx2(),
                Level::Avx512 => {
                    avx2()
                        && std::arch::is_x86_feature_detected!("avx512f")
                        && std::arch::is_x86_feature_detected!("avx512bw")
                        && std::arch::is_x86_feature_detected!("avx512dq")
                        && std::arch::is_x86_feature_detected!("avx512vl")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Level::Portable
        }
    }
}

/// A level that this machine has. Copy it freely; having one is what makes calling a level's kernels sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(Level);

impl Isa {
    /// The level this process uses: the best that the machine has, or the one that the environment variable
    /// `FRIT_ISA` names (`portable`, `avx2`, `avx512`) if the machine has it. Decided once.
    pub fn get() -> Isa {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            let asked = std::env::var("FRIT_ISA").ok().and_then(|name| Level::parse(&name)).and_then(Isa::at);
            asked.unwrap_or_else(Isa::best)
        })
    }

    /// The best level that the machine has.
    pub fn best() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa(Level::Portable))
    }

    /// This level, if the machine has it.
    pub fn at(level: Level) -> Option<Isa> {
        level.supported().then_some(Isa(level))
    }

    /// Every level that the machine has, ascending; tests run each kernel on all of them.
    pub fn available() -> Vec<Isa> {
        Level::ALL.into_iter().filter_map(Isa::at).collect()
    }

    /// The level.
    pub fn level(self) -> Level {
        self.0
    }

    /// Whether the machine multiplies bf16 pairs (`vdpbf16ps`) at this level.
    pub fn has_bf16_dot(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            self.0 == Level::Avx512 && std::arch::is_x86_feature_detected!("avx512bf16")
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }

    /// Whether the machine multiplies bytes in fours (`vpdpbusd`) at this level.
    pub fn has_int8_dot(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            self.0 == Level::Avx512 && std::arch::is_x86_feature_detected!("avx512vnni")
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_level_is_everywhere_and_the_best_is_last() {
        let all = Isa::available();
        assert_eq!(all[0].level(), Level::Portable);
        assert_eq!(*all.last().unwrap(), Isa::best());
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn names_parse_back() {
        for level in Level::ALL {
            assert_eq!(Level::parse(level.name()), Some(level));
        }
        assert_eq!(Level::parse("sse9"), None);
    }
}
