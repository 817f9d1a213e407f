(* The managed side of the OCaml peer. *)

type cell = Nil | Cell of { number : int; next : cell }

let rec make_cells i list = if i > 8 then list else make_cells (i + 1) (Cell { number = i; next = list })

let rec sum_cells sum = function
  | Nil -> sum
  | Cell { number; next } -> sum_cells (sum + number) next

let call n = n + 1

let work rounds =
  let x = ref (sum_cells 0 (make_cells 1 Nil)) in
  for _ = 1 to rounds do
    x := !x * 16807 mod 2147483647
  done;
  !x

let () =
  Callback.register "bench_call" call;
  Callback.register "bench_work" work;
  (* Without it the threads library is not linked, and C threads cannot register. *)
  ignore (Thread.self ())
