//! The stack machine of pickle protocols 0 to 5, cut down to data. Only opcodes and listed imports belong here;
//! a new import must be one that can neither run code nor open anything.

use super::PickleError;
use super::reader::Reader;
use super::value::{Arena, Import, Span, StorageRef, TensorRef, Value};
use frit_ir::DType;
use std::collections::HashMap;

type Step<T = ()> = Result<T, PickleError>;

/// Most arguments of a listed function, and most axes of a tensor.
const MAX_ARGUMENTS: usize = 64;
/// Longest name of a storage in bytes.
const MAX_KEY: usize = 1024;

/// Reads one pickle of `data` from `start`, adding to `arena`. Gives its value and the position after it.
/// An error comes with the byte offset of the opcode that failed.
pub fn parse(data: &[u8], start: usize, arena: &mut Arena) -> Result<(Value, usize), (usize, PickleError)> {
    let mut machine = Machine {
        reader: Reader::new(data, start),
        arena,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        opcode_at: start,
        copies_left: data.len(),
    };
    loop {
        machine.opcode_at = machine.reader.position();
        match machine.step() {
            Ok(Some(value)) => return Ok((value, machine.reader.position())),
            Ok(None) => {}
            Err(error) => return Err((machine.opcode_at, error)),
        }
    }
}

struct Machine<'a, 'b> {
    reader: Reader<'a>,
    arena: &'b mut Arena,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    opcode_at: usize,
    /// Items that dicts made of lists may still copy: as many as the input has bytes. More is no state dict.
    copies_left: usize,
}

impl Machine<'_, '_> {
    /// Executes one opcode; Some at STOP.
    fn step(&mut self) -> Step<Option<Value>> {
        let opcode = self.reader.u8()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.reader.u8()?),  // PROTO
            0x95 => drop(self.reader.u64()?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop_item()?,
            b'1' => drop(self.pop_mark()?),
            b'2' => self.push(self.top()?),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => self.read(|r| Ok(Value::Int(r.i32()?.into())))?,
            b'K' => self.read(|r| Ok(Value::Int(r.u8()?.into())))?,
            b'M' => self.read(|r| Ok(Value::Int(r.u16()?.into())))?,
            b'I' | b'L' => self.decimal()?,
            0x8a => self.read(|r| r.u8().and_then(|n| r.span(n.into())).map(Value::LongInt))?,
            0x8b => self.read(|r| r.u32().and_then(|n| r.span(n.into())).map(Value::LongInt))?,
            b'G' => self.read(|r| Ok(Value::Float(f64::from_be_bytes(r.bytes()?))))?,
            b'X' => self.text(|r| r.u32().map(u64::from))?,
            0x8c => self.text(|r| r.u8().map(u64::from))?,
            0x8d => self.text(|r| r.u64())?,
            b'T' => self.text(|r| r.u32().map(u64::from))?, // BINSTRING of Python 2: state-dict keys are ASCII
            b'U' => self.text(|r| r.u8().map(u64::from))?,
            b'V' => {
                let span = self.reader.line()?;
                self.reader.text(span)?;
                self.push(Value::Text(span));
            }
            b'B' => self.read(|r| r.u32().and_then(|n| r.span(n.into())).map(Value::Bytes))?,
            b'C' => self.read(|r| r.u8().and_then(|n| r.span(n.into())).map(Value::Bytes))?,
            0x8e => self.read(|r| r.u64().and_then(|n| r.span(n)).map(Value::Bytes))?,
            b')' => self.make_tuple(Vec::new()),
            b't' => {
                let items = self.pop_mark()?;
                self.make_tuple(items);
            }
            0x85 => self.tuple_of(1)?,
            0x86 => self.tuple_of(2)?,
            0x87 => self.tuple_of(3)?,
            b']' => self.make_list(Vec::new()),
            b'l' => {
                let items = self.pop_mark()?;
                self.make_list(items);
            }
            b'}' => self.make_dict(Vec::new()),
            b'd' => {
                let items = self.pop_mark()?;
                let pairs = pairs_of(&items)?;
                self.make_dict(pairs);
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend_dict(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(pairs_of(&items)?)?;
            }
            b'p' => self.put_line()?,
            b'q' => self.read_put(|r| r.u8().map(u64::from))?,
            b'r' => self.read_put(|r| r.u32().map(u64::from))?,
            0x94 => {
                let slot = self.memo.len() as u64;
                self.memo.insert(slot, self.top()?);
            }
            b'g' => {
                let slot = self.line_number()?;
                self.get(slot)?;
            }
            b'h' => {
                let slot = self.reader.u8()?.into();
                self.get(slot)?;
            }
            b'j' => {
                let slot = self.reader.u32()?.into();
                self.get(slot)?;
            }
            b'c' => {
                let module = self.reader.line()?;
                let name = self.reader.line()?;
                self.import(module, name)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(PickleError::Operand { expected: "the names of an import" });
                };
                self.import(module, name)?;
            }
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            other => return Err(PickleError::Opcode(other)),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Value> {
        if self.stack.len() <= self.floor() {
            return Err(PickleError::Stack);
        }
        self.stack.pop().ok_or(PickleError::Stack)
    }

    /// POP also removes a mark that nothing follows.
    fn pop_item(&mut self) -> Step {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn top(&self) -> Step<Value> {
        if self.stack.len() <= self.floor() {
            return Err(PickleError::Stack);
        }
        self.stack.last().copied().ok_or(PickleError::Stack)
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or(PickleError::Stack)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn read(&mut self, f: impl FnOnce(&mut Reader<'_>) -> Step<Value>) -> Step {
        let value = f(&mut self.reader)?;
        self.push(value);
        Ok(())
    }

    fn text(&mut self, len: impl FnOnce(&mut Reader<'_>) -> Step<u64>) -> Step {
        let len = len(&mut self.reader)?;
        let span = self.reader.span(len)?;
        self.reader.text(span)?;
        self.push(Value::Text(span));
        Ok(())
    }

    /// INT and LONG in decimal; `I00` and `I01` are bools.
    fn decimal(&mut self) -> Step {
        let span = self.reader.line()?;
        let value = match self.reader.text(span)? {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            digits => digits
                .trim_end_matches('L')
                .parse()
                .map(Value::Int)
                .map_err(|_| PickleError::Operand { expected: "a decimal number" })?,
        };
        self.push(value);
        Ok(())
    }

    fn line_number(&mut self) -> Step<u64> {
        let span = self.reader.line()?;
        let text = self.reader.text(span)?;
        text.parse().map_err(|_| PickleError::Operand { expected: "a memo number" })
    }

    fn make_tuple(&mut self, items: Vec<Value>) {
        let value = self.arena.tuple(items);
        self.push(value);
    }

    fn make_list(&mut self, items: Vec<Value>) {
        let value = self.arena.list(items);
        self.push(value);
    }

    fn make_dict(&mut self, pairs: Vec<(Value, Value)>) {
        let value = self.arena.dict(pairs);
        self.push(value);
    }

    fn tuple_of(&mut self, n: usize) -> Step {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.make_tuple(items);
        Ok(())
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Step {
        let expected = PickleError::Operand { expected: "a list to append to" };
        match self.top()? {
            Value::List(i) => self.arena.lists.get_mut(i).ok_or(expected)?.extend(items),
            _ => return Err(expected),
        }
        Ok(())
    }

    fn extend_dict(&mut self, pairs: Vec<(Value, Value)>) -> Step {
        let expected = PickleError::Operand { expected: "a dict to set items of" };
        match self.top()? {
            Value::Dict(i) => self.arena.dicts.get_mut(i).ok_or(expected)?.extend(pairs),
            _ => return Err(expected),
        }
        Ok(())
    }

    fn put_line(&mut self) -> Step {
        let slot = self.line_number()?;
        self.memo.insert(slot, self.top()?);
        Ok(())
    }

    fn read_put(&mut self, slot: impl FnOnce(&mut Reader<'_>) -> Step<u64>) -> Step {
        let slot = slot(&mut self.reader)?;
        self.memo.insert(slot, self.top()?);
        Ok(())
    }

    fn get(&mut self, slot: u64) -> Step {
        let value = self.memo.get(&slot).copied().ok_or(PickleError::Memo(slot))?;
        self.push(value);
        Ok(())
    }

    fn import(&mut self, module: Span, name: Span) -> Step {
        let (module, name) = (self.reader.text(module)?, self.reader.text(name)?);
        self.push(Value::Import(listed_import(module, name)?));
        Ok(())
    }

    /// REDUCE: what Python would call, here only described.
    fn reduce(&mut self) -> Step {
        let args = self.pop()?;
        let callee = self.pop()?;
        let args = match args {
            Value::Tuple(i) => self.arena.tuples.get(i).map(Vec::as_slice).unwrap_or_default(),
            _ => return Err(PickleError::Operand { expected: "a tuple of arguments" }),
        };
        // Copied for each call, so they must be few: a tuple may be called with any number of times.
        if args.len() > MAX_ARGUMENTS {
            return Err(PickleError::Operand { expected: "the few arguments of a listed function" });
        }
        let args = args.to_vec();
        let Value::Import(import) = callee else {
            return Err(PickleError::Operand { expected: "an import to call" });
        };
        let value = match import {
            Import::OrderedDict => self.ordered_dict(&args)?,
            Import::Size => match args.as_slice() {
                [sizes] if self.arena.items(*sizes).is_some() => *sizes,
                _ => return Err(PickleError::Arguments { callee: "torch.Size" }),
            },
            Import::RebuildParameter => match args.first() {
                Some(&tensor @ Value::Tensor(_)) => tensor,
                _ => return Err(PickleError::Arguments { callee: "torch._utils._rebuild_parameter" }),
            },
            Import::RebuildTensor => self.rebuild_tensor(&args)?,
            Import::Storage(_) | Import::ElementType => {
                return Err(PickleError::Operand { expected: "a function to call" });
            }
        };
        self.push(value);
        Ok(())
    }

    fn ordered_dict(&mut self, args: &[Value]) -> Step<Value> {
        let bad = || PickleError::Arguments { callee: "collections.OrderedDict" };
        let pairs = match args {
            [] => Vec::new(),
            [list] => {
                let items = self.arena.items(*list).ok_or_else(bad)?;
                self.copies_left = self.copies_left.checked_sub(items.len()).ok_or_else(bad)?;
                let pair = |item: &Value| match self.arena.items(*item) {
                    Some([key, value]) => Ok((*key, *value)),
                    _ => Err(bad()),
                };
                items.iter().map(pair).collect::<Step<Vec<_>>>()?
            }
            _ => return Err(bad()),
        };
        Ok(self.arena.dict(pairs))
    }

    fn rebuild_tensor(&mut self, args: &[Value]) -> Step<Value> {
        let bad = || PickleError::Arguments { callee: "torch._utils._rebuild_tensor_v2" };
        let [Value::Storage(storage), Value::Int(offset), shape, strides, ..] = args else {
            return Err(bad());
        };
        let numbers = |value: &Value| -> Step<Vec<u64>> {
            let items = self.arena.items(*value).filter(|i| i.len() <= MAX_ARGUMENTS).ok_or_else(bad)?;
            items
                .iter()
                .map(|v| match v {
                    Value::Int(n) => u64::try_from(*n).map_err(|_| bad()),
                    _ => Err(bad()),
                })
                .collect()
        };
        let tensor = TensorRef {
            storage: *storage,
            offset: u64::try_from(*offset).map_err(|_| bad())?,
            shape: numbers(shape)?,
            strides: numbers(strides)?,
            built_at: self.opcode_at,
        };
        self.arena.tensors.push(tensor);
        Ok(Value::Tensor(self.arena.tensors.len() - 1))
    }

    /// BUILD sets attributes. Only a dict's (`_metadata` of a state dict) occur; they are not read.
    fn build(&mut self) -> Step {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) => Ok(()),
            _ => Err(PickleError::Operand { expected: "a dict to set attributes of" }),
        }
    }

    /// BINPERSID: `("storage", type, key, device, elements)`; legacy files add a view, which must be None.
    fn persistent(&mut self) -> Step {
        let id = self.pop()?;
        let bad = || PickleError::Arguments { callee: "persistent_load" };
        let items = self.arena.items(id).ok_or_else(bad)?;
        let [
            Value::Text(kind),
            Value::Import(Import::Storage(dtype)),
            Value::Text(key),
            _,
            Value::Int(elements),
            view @ ..,
        ] = items
        else {
            return Err(bad());
        };
        let short = key.end.saturating_sub(key.start) <= MAX_KEY;
        if self.reader.text(*kind)? != "storage" || !short || !matches!(view, [] | [Value::None]) {
            return Err(bad());
        }
        let storage = StorageRef {
            dtype: *dtype,
            key: self.reader.text(*key)?.to_string(),
            elements: u64::try_from(*elements).map_err(|_| bad())?,
        };
        self.arena.storages.push(storage);
        self.push(Value::Storage(self.arena.storages.len() - 1));
        Ok(())
    }
}

fn pairs_of(items: &[Value]) -> Step<Vec<(Value, Value)>> {
    if !items.len().is_multiple_of(2) {
        return Err(PickleError::Operand { expected: "keys and values in pairs" });
    }
    Ok(items.chunks_exact(2).filter_map(|c| Some((*c.first()?, *c.get(1)?))).collect())
}

fn listed_import(module: &str, name: &str) -> Step<Import> {
    let refused = || PickleError::Import { module: module.to_string(), name: name.to_string() };
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Import::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Import::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Import::RebuildParameter,
        ("torch", "Size") => Import::Size,
        ("torch", "FloatStorage") => Import::Storage(DType::F32),
        ("torch", "DoubleStorage") => Import::Storage(DType::F64),
        ("torch", "HalfStorage") => Import::Storage(DType::F16),
        ("torch", "BFloat16Storage") => Import::Storage(DType::BF16),
        ("torch", "LongStorage") => Import::Storage(DType::I64),
        ("torch", "IntStorage") => Import::Storage(DType::I32),
        ("torch", "ShortStorage") => Import::Storage(DType::I16),
        ("torch", "CharStorage") => Import::Storage(DType::I8),
        ("torch", "ByteStorage") => Import::Storage(DType::U8),
        ("torch", "BoolStorage") => Import::Storage(DType::Bool),
        (
            "torch",
            "ComplexFloatStorage"
            | "ComplexDoubleStorage"
            | "QInt8Storage"
            | "QUInt8Storage"
            | "QInt32Storage",
        ) => return Err(PickleError::Storage(name.to_string())),
        (
            "torch",
            "float32" | "float64" | "float16" | "bfloat16" | "int64" | "int32" | "int16" | "int8" | "uint8"
            | "bool",
        ) => Import::ElementType,
        _ => return Err(refused()),
    })
}
