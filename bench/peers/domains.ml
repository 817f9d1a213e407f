(* OCaml 5 only: the second domain, which makes threads whose bodies are C (ocaml5.c). *)

external next_body : unit -> nativeint = "benchNextBody"
external run_body : nativeint -> unit = "benchRunBody"

let rec serve () =
  ignore (Thread.create run_body (next_body ()));
  serve ()

let () = Callback.register "bench_start_domain" (fun () -> ignore (Domain.spawn serve))
