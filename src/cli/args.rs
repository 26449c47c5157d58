//! Every command and flag of the command line, each declared once: help, completions and parsing derive from it.
//! What a command does is in its own file.

use clap::{Args, Parser, Subcommand, ValueEnum};
use frit::backend::Precision;
use std::path::PathBuf;

/// Compiles neural networks ahead of time into one file, and runs that file.
#[derive(Debug, Parser)]
#[command(name = "frit", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  frit run examples/spoken-digits --audio examples/spoken-digits/heldout/000.wav
  frit compile ./xls-r -o xls-r.frit
  frit run xls-r.frit --inputs in.safetensors --outputs out.safetensors
  frit bench xls-r.frit --dim samples=80000 --runs 20

<MODEL> is a checkpoint folder, an .onnx file or a .frit file, everywhere.
Exit status: 0 done, 1 the work failed, 2 the call was wrong.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile a model into one .frit file.
    #[command(
        after_help = "Examples:\n  frit compile ./xls-r -o xls-r.frit\n  frit compile ./bert -o bert.frit --head BertForMaskedLM --signature input_ids,attention_mask\n  frit compile ./bert -o bert.frit --dim batch=1 --dim sequence=128 --target x86-64-v3"
    )]
    Compile(Compile),
    /// Run a model on tensors from a file, or on raw text, images or sound.
    #[command(
        after_help = "Examples:\n  frit run ./wav2vec2 --audio sound.wav\n  frit run ./bert-qa --text 'Who wrote it?' --text 'It was written by Ada.' --json\n  frit run bert.frit --inputs in.safetensors --outputs out.safetensors --select logits,hidden_states"
    )]
    Run(Run),
    /// Generate token sequences.
    #[command(
        after_help = "Examples:\n  frit generate ./vit-gpt2 --image photo.jpg --num-beams 4\n  frit generate m.frit --inputs in.safetensors --outputs out.safetensors --max-new-tokens 20\n  frit generate ./gpt2 --text 'Once upon' --do-sample --temperature 0.8 --top-p 0.9 --seed 1"
    )]
    Generate(Box<Generate>),
    /// Measure a model.
    #[command(
        after_help = "Examples:\n  frit bench bert.frit --dim sequence=128 --runs 20 --threads 2\n  frit bench ./wav2vec2 --dim samples=80000 --profile trace.json"
    )]
    Bench(Bench),
    /// Write a model as ONNX.
    #[command(
        after_help = "Examples:\n  frit export ./bert -o bert.onnx --opset 20\n  frit export ./vit-gpt2 -o vit-gpt2-onnx\n  frit export ./bert -o bert.onnx --signature input_ids,attention_mask --select logits,hidden_states\n\nA folder gets model.onnx, or for a generative model the files that Optimum and transformers.js load, and the\nconfiguration, tokenizer and preprocessor beside them."
    )]
    Export(Export),
    /// Show a model's graph.
    #[command(
        after_help = "Examples:\n  frit inspect ./bert --stage imported\n  frit inspect ./bert --format svg > bert.svg\n  frit inspect ./bert --trace > /dev/null"
    )]
    Inspect(Inspect),
    /// Check an ONNX model against ONNX's own test data layout.
    #[command(
        after_help = "Examples:\n  frit verify model.onnx --data test_data_set_0 test_data_set_1\n  frit verify model.onnx --data test_data_set_0 --rtol 1e-4 --backend reference --json"
    )]
    Verify(Verify),
    /// Print a shell completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which part of a model, with which inputs and outputs.
#[derive(Debug, Args, Default, Clone)]
pub struct Part {
    /// Class of transformers to build; without it the one that config.json names.
    #[arg(long, value_name = "CLASS")]
    pub head: Option<String>,
    /// Entry point; without it the model's first.
    #[arg(long, value_name = "NAME")]
    pub entry: Option<String>,
    /// Outputs, comma-separated; a tuple's name stands for all its members.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub select: Option<Vec<String>>,
}

/// How to build for a fixed use.
#[derive(Debug, Args, Default, Clone)]
pub struct Fix {
    /// Inputs, comma-separated; without it those that the model's own processor makes.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub signature: Option<Vec<String>>,
    /// Fixes a dimension, as in batch=1; may be repeated.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = parse_dim)]
    pub dims: Vec<(String, usize)>,
}

/// Where and with how many threads to run.
#[derive(Debug, Args, Default, Clone)]
pub struct Where {
    /// Backend: cpu, reference, or tract where the build has it.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub backend: String,
    /// Threads; without it as many as the machine has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// Numbers that weights are kept and multiplied in; see docs/precision.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Dtype {
    /// Exact.
    #[default]
    F32,
    /// Weights and products in bfloat16, sums in f32.
    Bf16,
    /// Weights of linear layers in 8-bit integers, a scale a column; convolutions in bfloat16.
    Int8,
}

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Precision {
        match dtype {
            Dtype::F32 => Precision::Exact,
            Dtype::Bf16 => Precision::Bf16,
            Dtype::Int8 => Precision::Int8,
        }
    }
}

/// `frit compile`
#[derive(Debug, Args)]
pub struct Compile {
    /// Checkpoint folder or .onnx file.
    pub model: PathBuf,
    /// The file to write; an old one stays until the new one is whole.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub fix: Fix,
    /// Inputs like those to come: they say names and forms (a 3-D mask, float labels) instead of --signature.
    #[arg(long, value_name = "SAFETENSORS", conflicts_with = "signature")]
    pub inputs: Option<PathBuf>,
    /// Numbers that weights are kept in.
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// Machines to compile for: native, x86-64-v4, x86-64-v3 or generic.
    #[arg(long, value_name = "TARGET", default_value = "native")]
    pub target: String,
    /// Threads for packing weights.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print what was written as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Raw input instead of tensors.
#[derive(Debug, Args, Default, Clone)]
pub struct Raw {
    /// Text; twice for a pair (question and context); may hold the mask token.
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// PNG or JPEG file; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// WAV or FLAC file.
    #[arg(long, value_name = "FILE")]
    pub audio: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl Raw {
    /// True when there is raw input.
    pub fn is_given(&self) -> bool {
        !(self.text.is_empty() && self.image.is_empty() && self.audio.is_empty())
    }
}

/// Tensors in and out.
#[derive(Debug, Args, Default, Clone)]
pub struct Tensors {
    /// Inputs by their names in transformers' forward().
    #[arg(long, value_name = "SAFETENSORS")]
    pub inputs: Option<PathBuf>,
    /// Where to write the outputs.
    #[arg(long, value_name = "SAFETENSORS")]
    pub outputs: Option<PathBuf>,
}

/// `frit run`
#[derive(Debug, Args)]
pub struct Run {
    /// Checkpoint folder, .onnx file or .frit file.
    pub model: PathBuf,
    #[command(flatten)]
    pub tensors: Tensors,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub place: Where,
    #[command(flatten)]
    pub raw: Raw,
    /// Memory for one run in MiB, besides the weights; without it models from ONNX files have a limit in proportion
    /// to their weights and inputs.
    #[arg(long, value_name = "MIB")]
    pub memory_limit: Option<usize>,
    /// Iterations of all loops in one run; without it models from ONNX files have 200,000.
    #[arg(long, value_name = "N")]
    pub iteration_limit: Option<u64>,
    /// Operations of one run in 10^9, about nanoseconds of the interpreter; without it models from ONNX files have a
    /// limit in proportion to their weights and inputs.
    #[arg(long, value_name = "G")]
    pub work_limit: Option<u64>,
    /// Answers to show for each input.
    #[arg(long, value_name = "K", default_value_t = 5)]
    pub top: usize,
}

/// `frit generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// Checkpoint folder, .onnx file or .frit file.
    pub model: PathBuf,
    #[command(flatten)]
    pub tensors: Tensors,
    #[command(flatten)]
    pub raw: Raw,
    #[command(flatten)]
    pub place: Where,
    /// Class of transformers to build; without it the one that config.json names.
    #[arg(long, value_name = "CLASS")]
    pub head: Option<String>,
    #[command(flatten)]
    pub options: GenerateOptions,
}

/// Settings of transformers' generate(); those left out come from generation_config.json.
#[derive(Debug, Args, Default, Clone, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub struct GenerateOptions {
    /// Greatest length in tokens, prompt included.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Greatest number of new tokens.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// Least length in tokens, prompt included.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<usize>,
    /// Least number of new tokens.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_new_tokens: Option<usize>,
    /// Beams; 1 is greedy search.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_beams: Option<usize>,
    /// Groups of beams that are kept apart.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_beam_groups: Option<usize>,
    /// How much groups of beams avoid each other's tokens.
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diversity_penalty: Option<f64>,
    /// Sequences to return for each input.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_return_sequences: Option<usize>,
    /// Exponent of the length that beam scores are divided by.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_penalty: Option<f64>,
    /// Tokens that may not repeat in a row of this length.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_repeat_ngram_size: Option<usize>,
    /// Divides the scores of tokens that occurred.
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Stop beam search at the first full set; --early-stopping=never searches on while better ones are possible.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "bool_or_word")]
    pub early_stopping: Option<String>,
    /// Draw tokens instead of taking the best.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub do_sample: bool,
    /// Divides the scores before drawing.
    #[arg(long, value_name = "T")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Draw among the K best; 0 for all.
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Draw among the best that together have this probability.
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Draw among tokens of typical information content.
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f64>,
    /// Draw only tokens of at least this probability.
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_cutoff: Option<f64>,
    /// As epsilon cutoff, scaled by entropy.
    #[arg(long, value_name = "P")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_cutoff: Option<f64>,
    /// First token after the start.
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_bos_token_id: Option<i64>,
    /// Last token when the length is reached.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_eos_token_id: Option<Vec<i64>>,
    /// Tokens that end a sequence.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<Vec<i64>>,
    /// Token that fills finished rows.
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_token_id: Option<i64>,
    /// First token of the decoder.
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_start_token_id: Option<i64>,
    /// Tokens that never come.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppress_tokens: Option<Vec<i64>>,
    /// Tokens that never come first.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin_suppress_tokens: Option<Vec<i64>>,
    /// Token sequences that never come, as JSON: [[1, 2], [3]].
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_words_ids: Option<serde_json::Value>,
    /// Normalise scores again after all processors.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub renormalize_logits: bool,
    /// Replace NaN and infinite scores.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remove_invalid_values: bool,
    /// Longest time in seconds.
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<f64>,
    /// Any further setting of generation_config.json, as NAME=JSON; may be repeated.
    #[arg(long = "set", value_name = "NAME=JSON", value_parser = parse_setting)]
    #[serde(skip)]
    pub set: Vec<(String, serde_json::Value)>,
    /// Seed of the draws.
    #[arg(long, value_name = "SEED")]
    #[serde(skip)]
    pub seed: Option<u64>,
}

fn bool_or_word<S: serde::Serializer>(v: &Option<String>, s: S) -> Result<S::Ok, S::Error> {
    match v.as_deref() {
        Some("true") => s.serialize_bool(true),
        Some("false") => s.serialize_bool(false),
        Some(word) => s.serialize_str(word),
        None => s.serialize_none(),
    }
}

/// `frit bench`
#[derive(Debug, Args)]
pub struct Bench {
    /// Checkpoint folder, .onnx file or .frit file.
    pub model: PathBuf,
    /// Inputs; without them made-up ones of the sizes that --dim gives.
    #[arg(long, value_name = "SAFETENSORS")]
    pub inputs: Option<PathBuf>,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub fix: Fix,
    #[command(flatten)]
    pub place: Where,
    /// Tokens that the caches of a decoding step hold before each run.
    #[arg(long, value_name = "N")]
    pub past: Option<usize>,
    /// Timed runs, after two that are not.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Numbers that weights are kept in: f32 unless given; a .frit file has its own.
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Time every step beside the machine's measured limits: print tables, and write a trace for Perfetto.
    #[arg(long, value_name = "TRACE.json")]
    pub profile: Option<PathBuf>,
}

/// `frit export`
#[derive(Debug, Args)]
pub struct Export {
    /// Checkpoint folder or .onnx file.
    pub model: PathBuf,
    /// The .onnx file or folder to write.
    #[arg(short, long, value_name = "FILE|DIR")]
    pub output: PathBuf,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub fix: Fix,
    /// Inputs like those to come: they say names and forms (a 3-D mask, float labels) instead of --signature.
    #[arg(long, value_name = "SAFETENSORS", conflicts_with = "signature")]
    pub inputs: Option<PathBuf>,
    /// ONNX opset, 17 to 24.
    #[arg(long, value_name = "N", default_value_t = 17)]
    pub opset: u32,
    /// Write the graph as the frontend built it, or after the passes.
    #[arg(long, value_enum, default_value_t = ExportStage::Imported)]
    pub stage: ExportStage,
    /// Weights in a file beside the model: auto for models over 2 GB.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub external: ExternalData,
    /// Write composite operators as their parts even where the opset has them.
    #[arg(long)]
    pub plain: bool,
    /// Print what was written as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Which form of a graph is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportStage {
    /// As the frontend built it.
    Imported,
    /// After the passes.
    Optimised,
}

/// Where an exported model's weights go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum ExternalData {
    /// Beside the model when it would exceed 2 GB.
    #[default]
    Auto,
    /// Beside the model.
    Always,
    /// Into the model.
    Never,
}

/// How far a graph is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Stage {
    /// As the frontend built it.
    Imported,
    /// After the passes.
    #[default]
    Optimised,
    /// As the plan runs it.
    Plan,
}

/// How to show a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Format {
    /// The text format, or the plan's listing.
    #[default]
    Text,
    /// Graphviz.
    Dot,
    /// A picture (needs Graphviz' dot on the PATH).
    Svg,
    /// Counts, inputs, outputs and nodes.
    Json,
}

/// `frit inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// Checkpoint folder, .onnx file or .frit file.
    pub model: PathBuf,
    /// How far to compile.
    #[arg(long, value_enum, default_value_t)]
    pub stage: Stage,
    /// How to show it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub part: Part,
    #[command(flatten)]
    pub fix: Fix,
    /// Print what every rewrite did, and why near-matches did not fire, to standard error.
    #[arg(long)]
    pub trace: bool,
}

/// `frit verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// .onnx file.
    pub model: PathBuf,
    /// Folders with input_N.pb and output_N.pb.
    #[arg(long, value_name = "FOLDER", required_unless_present = "suite", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Relative tolerance.
    #[arg(long, value_name = "R", default_value_t = 1e-3)]
    pub rtol: f64,
    /// Absolute tolerance.
    #[arg(long, value_name = "A", default_value_t = 1e-7)]
    pub atol: f64,
    #[command(flatten)]
    pub place: Where,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// The model is a folder of folders, each with a model.onnx and its data sets: one JSON object a line for each.
    #[arg(long, hide = true, conflicts_with = "data")]
    pub suite: bool,
    /// With --suite: begin after the folder of this name.
    #[arg(long, hide = true, value_name = "NAME", requires = "suite")]
    pub after: Option<String>,
}

fn parse_dim(s: &str) -> Result<(String, usize), String> {
    let (name, n) = s.split_once('=').ok_or_else(|| format!("`{s}`: expected NAME=N, as in batch=1"))?;
    if name.is_empty() {
        return Err(format!("`{s}`: expected a name before ="));
    }
    n.parse().map(|n| (name.to_owned(), n)).map_err(|_| format!("`{n}` is no size: expected a whole number"))
}

fn parse_json(s: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(s).map_err(|e| format!("not JSON: {e}"))
}

fn parse_setting(s: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = s.split_once('=').ok_or_else(|| format!("`{s}`: expected NAME=JSON"))?;
    Ok((name.to_owned(), parse_json(value)?))
}
