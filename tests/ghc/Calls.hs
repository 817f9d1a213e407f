{-# LANGUAGE ForeignFunctionInterface #-}
-- What ghc_stubs.sh has ghc make stubs of; the functions themselves are written in C, in calls_host.c.
module Calls where
import Data.Int
import Data.Word
import Foreign.Ptr

foreign export ccall successor :: Int -> IO Int
foreign export ccall half      :: Double -> Double
foreign export ccall clip      :: Int16 -> Word8 -> Int16
foreign export ccall isUpper   :: Char -> IO Bool
foreign export ccall poke32    :: Ptr Word32 -> Word32 -> IO ()
foreign export ccall answer    :: Int
foreign export ccall divide    :: Int -> Int -> IO Int

successor :: Int -> IO Int
successor n = return (n + 1)

half :: Double -> Double
half x = x / 2

clip :: Int16 -> Word8 -> Int16
clip n most = min n (fromIntegral most)

isUpper :: Char -> IO Bool
isUpper c = return (c >= 'A' && c <= 'Z')

poke32 :: Ptr Word32 -> Word32 -> IO ()
poke32 _ _ = return ()

answer :: Int
answer = 42

-- Raises when the second argument is zero.
divide :: Int -> Int -> IO Int
divide a b = return $! a `div` b
