{-# LANGUAGE ForeignFunctionInterface #-}
-- GHC's wrapper imports (figures B3, B3a).  C does the calling and the timing: callback_ghc.c.
module Main where
import Foreign.Ptr
import System.Environment
import Data.Int

type Callback = Int64 -> IO Int64
foreign import ccall "wrapper" wrap :: Callback -> IO (FunPtr Callback)
foreign import ccall safe "measureCallback" measureCallback :: FunPtr Callback -> Double -> IO ()
foreign import ccall safe "measureMaking" measureMaking :: FunPtr (Int64 -> IO ()) -> Double -> IO ()
foreign import ccall "wrapper" wrapBatch :: (Int64 -> IO ()) -> IO (FunPtr (Int64 -> IO ()))

increment :: Callback
increment n = return $! n + 1

makeMany :: Int64 -> IO ()
makeMany 0 = return ()
makeMany n = wrap increment >>= freeHaskellFunPtr >> makeMany (n - 1)

main :: IO ()
main = do
  args <- getArgs
  let seconds = head ([read (drop 10 a) | a <- args, take 10 a == "--seconds="] ++ [0.3])
  if "call" `elem` args
    then wrap increment >>= \f -> measureCallback f seconds
    else wrapBatch makeMany >>= \f -> measureMaking f seconds
